//! Answers for a cluster of JSON and tables made from it, as the applier makes them.

mod choice;
mod cluster;
mod elsewhere;
mod fake;
mod held;
mod nobody;
mod results;

use expect_test::{Expect, expect};
use model::Protocol;
use serde_json::json;

use super::{Connect, ExplainError, Facts, Question, Topic, explain};
use crate::control::table;
use fake::Scene;

const ATTACHED: Connect<'_> = Connect::Attached("/sys/fs/cgroup");
const ABSENT: Connect<'_> = Connect::Absent("no cgroup v2 is mounted");

impl Scene {
    fn ask(
        &self,
        from: &str,
        to: &str,
        protocol: Option<Protocol>,
        connect: Connect<'_>,
    ) -> Result<super::Explanation, ExplainError> {
        let question = Question {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            protocol,
        };
        let facts = Facts {
            lookups: &self.tables,
            cluster: &self.cluster,
            desired: &self.desired,
            connect,
            fast_path: &self.fast_path,
            policed: self.policed,
            failures: &[],
            problems: &[],
        };
        explain(&question, &facts)
    }

    #[track_caller]
    fn check(&self, from: &str, to: &str, connect: Connect<'_>, expected: Expect) {
        let answer = self.ask(from, to, None, connect).unwrap();
        expected.assert_eq(&table::explanation(&answer));
    }

    /// The steps about some topics, and the result.
    #[track_caller]
    fn check_steps(&self, from: &str, to: &str, topics: &[Topic], expected: Expect) {
        let mut answer = self.ask(from, to, None, ATTACHED).unwrap();
        answer.steps.retain(|step| topics.contains(&step.topic));
        expected.assert_eq(&table::explanation(&answer));
    }

    #[track_caller]
    fn check_result(&self, from: &str, to: &str, expected: Expect) {
        let text = match self.ask(from, to, None, ABSENT) {
            Ok(answer) => format!("{}: {}", answer.verdict.as_str(), answer.result),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    }
}

#[test]
fn a_pods_connection_is_explained_from_client_to_backend() {
    let scene = Scene::new();
    scene.check("shop/cart", "shop/web", ATTACHED, expect![[r#"
         1. client
            looked at   10.244.1.5
            found       Pod shop/cart of this node
            so          inside: a client of this node, whose packets come by its interface here
            because of  Pod shop/cart
         2. frontend
            looked at   FRONTENDS_V2[10.96.0.10:80/tcp]
            found       service 10
            so          it is the ClusterIP of this object
            because of  Service shop/web port `http`/tcp
         3. where
            looked at   the connect programs
            found       attached to /sys/fs/cgroup
            so          chosen when a process in there connects, once; packets of others, and of who listens at a local backend's port itself, go through the same tables
         4. pool
            looked at   SERVICES_V2[10], the pool of every endpoint
            found       10.244.1.2:8080 (backend 18), 10.244.2.2:8080 (backend 19), 10.244.2.3:8080 (backend 20)
            so          one of these 3 is chosen (internalTrafficPolicy: Cluster)
            because of  Service shop/web port `http`/tcp
         5. choice
            looked at   SERVICES_V2[10], the ring
            found       no ring: the endpoints weigh the same
            so          any of 3 slots, at random
            because of  Service shop/web port `http`/tcp
         6. source address
            looked at   the socket
            found       connect is given the backend's address
            so          the connection is one to the backend itself: no packet is translated

        10.244.1.5 -> 10.96.0.10:80/tcp becomes one of: 10.244.1.5 -> 10.244.1.2:8080, 10.244.1.5 -> 10.244.2.2:8080, 10.244.1.5 -> 10.244.2.3:8080
    "#]]);
    scene.check("shop/cart:4000", "shop/web:http", ABSENT, expect![[r#"
         1. client
            looked at   10.244.1.5:4000
            found       Pod shop/cart of this node
            so          inside: a client of this node, whose packets come by its interface here
            because of  Pod shop/cart
         2. frontend
            looked at   FRONTENDS_V2[10.96.0.10:80/tcp]
            found       service 10
            so          it is the ClusterIP of this object
            because of  Service shop/web port `http`/tcp
         3. existing connection
            looked at   CONNECTIONS_V3 and OPENING_V3[10.244.1.5:4000 -> 10.96.0.10:80/tcp]
            found       nothing
            so          the next packet opens a connection
         4. where
            looked at   the connect programs
            found       not attached: no cgroup v2 is mounted
            so          chosen for the first packet, and each packet is translated
         5. pool
            looked at   SERVICES_V2[10], the pool of every endpoint
            found       10.244.1.2:8080 (backend 18), 10.244.2.2:8080 (backend 19), 10.244.2.3:8080 (backend 20)
            so          one of these 3 is chosen (internalTrafficPolicy: Cluster)
            because of  Service shop/web port `http`/tcp
         6. choice
            looked at   SERVICES_V2[10], the ring
            found       no ring: the endpoints weigh the same
            so          slot 0 of 3, by the hash 0x36af7dcf of the five-tuple: 10.244.1.2:8080
            because of  Service shop/web port `http`/tcp
         7. source address
            looked at   SETTINGS_V2, towards 10.244.1.2:8080
            found       the reply comes back to the pod through this node
            so          kept

        10.244.1.5:4000 -> 10.96.0.10:80/tcp becomes 10.244.1.5:4000 -> 10.244.1.2:8080
    "#]]);
}

#[test]
fn a_client_outside_gets_the_nodes_address_where_the_backend_is_elsewhere() {
    let scene = Scene::new();
    scene.check_steps(
        "172.30.0.2",
        "172.31.0.1:30080",
        &[Topic::Frontend, Topic::Pool, Topic::Source],
        expect![[r#"
             1. frontend
                looked at   FRONTENDS_V2[172.31.0.1:30080/tcp]
                found       service 10, an address of this node
                so          it is the NodePort of this object
                because of  Service shop/web port `http`/tcp
             2. pool
                looked at   SERVICES_V2[10], the pool of every endpoint
                found       10.244.1.2:8080 (backend 18), 10.244.2.2:8080 (backend 19), 10.244.2.3:8080 (backend 20)
                so          one of these 3 is chosen (externalTrafficPolicy: Cluster)
                because of  Service shop/web port `http`/tcp
             3. source address
                looked at   SETTINGS_V2, towards 10.244.1.2:8080
                found       the backend is on this node, so its reply passes here
                so          kept
             4. source address
                looked at   SETTINGS_V2, towards 10.244.2.2:8080, 10.244.2.3:8080
                found       the backend's reply would not pass this node
                so          becomes the node's, 172.31.0.1, a free port of 1024-29999

            172.30.0.2 -> 172.31.0.1:30080/tcp becomes one of: 172.30.0.2 -> 10.244.1.2:8080, 172.31.0.1 (a free port of 1024-29999) -> 10.244.2.2:8080, 172.31.0.1 (a free port of 1024-29999) -> 10.244.2.3:8080
        "#]],
    );
}

#[test]
fn the_answer_as_json_is_read_back_as_it_was() {
    let answer = Scene::new()
        .ask("shop/cart", "shop/empty", None, ATTACHED)
        .unwrap();
    let value = serde_json::to_value(&answer).unwrap();
    assert_eq!(value["verdict"], json!("rejected"));
    assert_eq!(
        serde_json::from_value::<super::Explanation>(value).unwrap(),
        answer
    );
}
