//! Figure P2: asks of 1, 2, 4 and 8 GPUs come and go on 200 nodes at 95 % offered load; how many of
//! those for 8 are refused although enough GPUs are free, by best fit alone and with moves.
//!
//! The moves are the consolidation policy's, carried out at once: two for an ask, as in production,
//! and four, which is still far fewer than one move in ten placements.

use wharfage_sim::{Choice, churn};

/// How often 1, 2, 4 and 8 GPUs are asked for.
const MIXES: [[u32; 4]; 3] = [[70, 15, 10, 5], [40, 25, 20, 15], [15, 15, 30, 40]];

fn main() {
    let mut worst: f64 = 0.0;
    let mut most_moves: f64 = 0.0;
    let mut worst_of_two: f64 = 0.0;
    println!(
        "weights of 1, 2, 4, 8      best fit   two moves  four moves   four: moves per placement"
    );
    for mix in MIXES {
        let (alone, _) = refused(mix, 0);
        let (of_two, _) = refused(mix, 2);
        let (of_four, moves) = refused(mix, 4);
        let mix = mix.map(|weight| weight.to_string()).join(", ");
        println!("{mix:<24} {alone:>8.2} %  {of_two:>8.2} %  {of_four:>8.2} %   {moves:>25.4}");
        worst_of_two = worst_of_two.max(of_two / alone);
        worst = worst.max(of_four / alone);
        most_moves = most_moves.max(moves);
    }
    println!("refused with two moves, what a fleet may do, the worst mix: {worst_of_two:.2} x");
    println!("refused with four moves against best fit alone, the worst mix: {worst:.2} x");
    println!("moves per placement, the worst mix: {most_moves:.3}");
}

/// Percent of the asks for 8 GPUs, and the moves.
fn refused(mix: [u32; 4], moves: usize) -> (f64, f64) {
    let settings =
        churn::Settings { nodes: 200, load: 0.95, mix, choice: Choice::BestFit, moves, seeds: 2 };
    let outcome = churn::run(&settings).expect("the settings make sense");
    let of = outcome.sizes.last().expect("8 is the last size");
    (100.0 * of.refused_although_free as f64 / of.asked as f64, outcome.moves_per_placement)
}
