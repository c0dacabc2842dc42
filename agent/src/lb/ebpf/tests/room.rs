//! What units take of the tables.

use std::collections::BTreeSet;

use agent_abi::service::{POOL_CLUSTER, POOL_LOCAL};

use super::*;

#[test]
fn this_nodes_endpoints_are_found_where_nobody_is_given_them_alone() {
    let slots = |style| {
        let many: BTreeSet<u8> = (20..60).collect();
        let unit = styled(1, &BTreeSet::from([0]), &many, style);
        let mut node = Node::default();
        node.converge(&Wanted::from([(1, unit)]), |_, _| true);
        let value = node.tables.services()[&1].value.unwrap();
        (
            value.pools[POOL_CLUSTER].slots,
            value.pools[POOL_LOCAL].slots,
        )
    };
    let weighted = Style {
        weighted: true,
        ..Style::default()
    };
    // Every second one is of this node.
    assert_eq!(slots(Style::default()), (40, 20));
    assert_eq!(slots(weighted), (40, 20));
    let hashed = Style {
        hashed: true,
        ..Style::default()
    };
    assert_eq!(slots(hashed), (40, 0), "packets are asked");
}

#[test]
fn what_a_unit_will_take_is_known_before_it_is_made() {
    for style in [
        Style::default(),
        Style {
            hashed: true,
            weighted: true,
            local: true,
            guarded: true,
        },
    ] {
        let mut tables = Tables::new(1, 1, 1);
        for backends in [BTreeSet::from([1, 2]), BTreeSet::from([2, 3, 4, 5])] {
            let unit = styled(1, &BTreeSet::from([0, 1]), &backends, style);
            let ops = make(1, &unit, &tables);
            let expected: Vec<usize> = tables
                .usage()
                .iter()
                .zip(tables.growth(&ops))
                .map(|(used, growth)| used + growth)
                .collect();
            for op in ops {
                tables.commit(op);
            }
            assert_eq!(tables.usage().to_vec(), expected);
            let of_unit = tables.usage_of(1).to_vec();
            assert_eq!(of_unit[..4], expected[..4], "nobody else has any");
        }
    }
}
