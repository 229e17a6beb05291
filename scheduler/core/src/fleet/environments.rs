//! The words by which Baseten's API reaches a deployment (`production`, `development`, its own
//! environment): resolved in one place, so that a request and a change of settings that use the
//! same word reach the same deployment.

use crate::fleet::rows::deployment::DeploymentRow;

/// `production` among the deployments of one model: the oldest, until there are promotions.
pub fn production<'r>(of_model: &[&'r DeploymentRow]) -> Option<&'r DeploymentRow> {
    of_model.iter().copied().min_by_key(|row| age(row))
}

/// `development` among the deployments of one model: the one of that environment, else the
/// youngest.
pub fn development<'r>(of_model: &[&'r DeploymentRow]) -> Option<&'r DeploymentRow> {
    let declared = |row: &&&DeploymentRow| own(row) == Some("development");
    of_model.iter().find(declared).or_else(|| of_model.iter().max_by_key(|row| age(row))).copied()
}

/// Every word that reaches `row` among the deployments of its model, in order.
pub fn words(of_model: &[&DeploymentRow], row: &DeploymentRow) -> Vec<String> {
    let is = |found: Option<&DeploymentRow>| found.is_some_and(|found| found.id == row.id);
    // The two fixed words reach one deployment each, whatever environments are called.
    let free = |word: &&str| !matches!(*word, "production" | "development");
    let mut words: Vec<String> = own(row).filter(free).map(str::to_owned).into_iter().collect();
    if is(production(of_model)) {
        words.push("production".to_owned());
    }
    if is(development(of_model)) {
        words.push("development".to_owned());
    }
    words.sort();
    words
}

fn own(row: &DeploymentRow) -> Option<&str> {
    row.spec.extension.environment.as_deref()
}

/// Creation, ties by id.
fn age(row: &DeploymentRow) -> impl Ord + use<> {
    (row.created_at, row.id.clone())
}
