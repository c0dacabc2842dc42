//! How one of several backends is chosen.

use expect_test::expect;

use super::fake::Scene;
use crate::explain::Topic;

#[test]
fn a_hashed_choice_is_one_backend() {
    let scene = Scene::new();
    scene.check_steps(
        "shop/cart",
        "shop/hashed",
        &[Topic::Where, Topic::Choice],
        expect![[r#"
             1. where
                looked at   the connect programs
                found       they leave service 3 to the packets: a hash or affinity needs them
                so          chosen for the first packet, and each packet is translated
             2. choice
                looked at   RINGS_V2[1], entry 417 of 509
                found       hash 0x6a79c5ff of the protocol, the client's address
                so          always 10.244.2.3:8080 (backend 4)
                because of  Service shop/hashed port `http`/tcp

            10.244.1.5 -> 10.96.0.16:80/tcp becomes 10.244.1.5 -> 10.244.2.3:8080
        "#]],
    );
}

#[test]
fn weights_are_shares_of_the_ring() {
    let scene = Scene::new();
    scene.check_steps(
        "shop/cart",
        "shop/weighted",
        &[Topic::Choice],
        expect![[r#"
             1. choice
                looked at   RINGS_V2[2], 509 entries
                found       10.244.1.2:8080 60 %, 10.244.2.2:8080 20 %, 10.244.2.3:8080 20 %
                so          any entry, at random; so each endpoint by its weight
                because of  Service shop/weighted port `http`/tcp

            10.244.1.5 -> 10.96.0.17:80/tcp becomes one of: 10.244.1.5 -> 10.244.1.2:8080, 10.244.1.5 -> 10.244.2.2:8080, 10.244.1.5 -> 10.244.2.3:8080
        "#]],
    );
}
