//! Stories of the whole controller with perfect agents. After every step the rules hold and a
//! second pass changes nothing.

mod world;

use wharfage_shared::capacity::CapacityClass;
use wharfage_shared::notice::Leaves;

use self::world::World;

#[test]
fn a_deployment_is_placed_becomes_ready_and_is_replaced_before_a_noticed_node_goes() {
    let mut world = World::new(2, 1);
    world.deploy("batch", 8, 1, |spec| {
        spec.classes = vec![CapacityClass::Spot, CapacityClass::OnDemand];
    });
    assert_eq!(world.replicas("batch"), ["r-1 fetching node-3"]);
    world.run(30);
    assert_eq!(world.replicas("batch"), ["r-1 ready node-3"]);

    world.notice("node-3", 120, Leaves::Node);
    let at_once = ["r-1 ready node-3", "r-2 fetching node-1"];
    assert_eq!(world.replicas("batch"), at_once);
    world.run(30);
    assert_eq!(world.replicas("batch"), ["r-1 stopped node-3", "r-2 ready node-1"]);
    world.run(120);
    assert_eq!(world.replicas("batch"), ["r-1 stopped node-3", "r-2 ready node-1"]);
    let bill = world.invoice();
    assert!(bill.contains("\"spot\"") && bill.contains("\"on_demand\""), "{bill}");
    world.replay();
}
