//! Where connections lead, in one line each.

use expect_test::expect;

use super::fake::Scene;

#[test]
fn results_in_one_line() {
    let scene = Scene::new();
    for (from, to, expected) in [
        (
            "10.244.1.2",
            "shop/web",
            expect![
                "balanced: 10.244.1.2 -> 10.96.0.10:80/tcp becomes one of: 10.96.0.10 -> 10.244.1.2:8080, 10.244.1.2 -> 10.244.2.2:8080, 10.244.1.2 -> 10.244.2.3:8080"
            ],
        ),
        (
            "172.31.0.1",
            "shop/web",
            expect![
                "balanced: 172.31.0.1 -> 10.96.0.10:80/tcp becomes one of: 172.31.0.1 -> 10.244.1.2:8080, 172.31.0.1 -> 10.244.2.2:8080, 172.31.0.1 -> 10.244.2.3:8080"
            ],
        ),
        (
            "fd00:244:1::2",
            "shop/web",
            expect![
                "balanced: fd00:244:1::2 -> [fd00:96::10]:80/tcp becomes fd00:96::10 -> [fd00:244:1::2]:8080"
            ],
        ),
        (
            "shop/cart",
            "shop/empty",
            expect![
                "rejected: 10.244.1.5 -> 10.96.0.11:80/tcp is rejected: the Service's EndpointSlices have no IPv4 endpoint"
            ],
        ),
        (
            "shop/cart",
            "shop/unready",
            expect![
                "rejected: 10.244.1.5 -> 10.96.0.12:80/tcp is rejected: none of its 3 IPv4 endpoints is ready"
            ],
        ),
        (
            "shop/cart",
            "shop/local",
            expect![
                "dropped: 10.244.1.5 -> 10.96.0.13:80/tcp is dropped: none of the endpoints in use (1) is on node1"
            ],
        ),
        (
            "shop/cart",
            "shop/headless",
            expect![
                "untouched: Service shop/headless is headless: DNS answers with the endpoints' own addresses; nothing is balanced"
            ],
        ),
        (
            "shop/cart",
            "shop/foreign",
            expect!["untouched: 10.244.1.5 -> 10.96.0.15:80/tcp passes untouched"],
        ),
        (
            "shop/cart",
            "10.96.0.10:81",
            expect!["untouched: 10.244.1.5 -> 10.96.0.10:81/tcp passes untouched"],
        ),
        (
            "shop/cart",
            "192.0.2.7:80",
            expect!["untouched: 10.244.1.5 -> 192.0.2.7:80/tcp passes untouched"],
        ),
        (
            "shop/cart",
            "shop/nobody",
            expect!["there is no Service shop/nobody"],
        ),
        (
            "shop/cart",
            "shop/two",
            expect!["Service shop/two: say which port: a (80/tcp), b (81/tcp)"],
        ),
        (
            "shop/cart",
            "shop/two:b",
            expect![
                "balanced: 10.244.1.5 -> 10.96.0.19:81/tcp becomes one of: 10.244.1.5 -> 10.244.1.2:8080, 10.244.1.5 -> 10.244.2.2:8080, 10.244.1.5 -> 10.244.2.3:8080"
            ],
        ),
        (
            "shop/away",
            "shop/web",
            expect![
                "Pod shop/away runs on node2, where its connections are balanced; ask the agent there, or give the pod's address to see what this node does with its packets"
            ],
        ),
        (
            "shop/unknown",
            "shop/web",
            expect![
                "Pod shop/unknown is not known on this node, which knows its own pods only; ask the agent of the pod's node, or give the pod's address"
            ],
        ),
        (
            "fd00::5",
            "10.96.0.10:80",
            expect!["fd00::5 and 10.96.0.10:80 are not of one family"],
        ),
    ] {
        scene.check_result(from, to, expected);
    }
}
