//! What is written of the checks.

use super::*;

#[test]
fn every_finding_that_is_wrong_says_in_one_line_what_to_do() {
    let mut facts = good();
    set(&mut facts, "net.ipv4.ip_forward", "0");
    facts.nft = unseen("chains of nftables: cannot be read");
    let report = Report::of(run(&facts, &[]));
    for found in &report.findings {
        let is_wrong = matches!(found.verdict, Verdict::Failure | Verdict::Warning);
        assert_eq!(found.remedy.is_some(), is_wrong, "{found:?}");
        assert!(
            found.remedy.iter().all(|remedy| !remedy.contains('\n')),
            "{found:?}"
        );
    }
    let only = ["forwarding", "rp-filter", "input-chains"].map(str::to_owned);
    let report = Report::of(run(&facts, &only));
    expect![[r#"
        FAILURE  forwarding: net.ipv4.ip_forward is 0
                 affects  packets of pods do not leave the node, and do not come in
                 remedy   sysctl -w net.ipv4.ip_forward=1, and look in /etc/sysctl.d for who sets it to 0

        VERDICT         CHECK         FOUND
        could not tell  input-chains  chains of nftables: cannot be read
        ok              rp-filter     nothing that strict filters would drop

        1 failures, 0 warnings, 1 could not tell, 1 ok, 0 not applicable
    "#]].assert_eq(&report::table(&report));
    expect![[r#"
        {
          "version": "0.1.0",
          "summary": {
            "failures": 1,
            "warnings": 0,
            "could_not_tell": 0,
            "ok": 0,
            "not_applicable": 0
          },
          "findings": [
            {
              "check": "forwarding",
              "verdict": "failure",
              "found": "net.ipv4.ip_forward is 0",
              "affects": "packets of pods do not leave the node, and do not come in",
              "remedy": "sysctl -w net.ipv4.ip_forward=1, and look in /etc/sysctl.d for who sets it to 0"
            }
          ]
        }"#]]
        .assert_eq(&serde_json::to_string_pretty(&Report::of(run(&facts, &only[..1]))).unwrap());
}

/// `docs/doctor.md` says what the checks say. `UPDATE_EXPECT=1 cargo test -p agent` writes it.

#[test]
fn the_page_of_checks_is_up_to_date() {
    let mut page = PAGE.to_owned();
    for check in &CHECKS {
        let agent = if check.needs_agent { "yes" } else { "no" };
        let row = [check.name, check.looks_at, check.affects, agent];
        let [name, looks_at, affects, agent] = row.map(|cell| cell.replace('|', "\\|"));
        writeln!(page, "| `{name}` | {looks_at} | {affects} | {agent} |").unwrap();
    }
    expect_file!["../../../../docs/doctor.md"].assert_eq(&page);
}

const PAGE: &str = "\
# fairlead-agent doctor

Looks at what on a node stands in the way, before installing and while the agent runs, and says to each finding what it affects and what to do about it, in one line.
It changes nothing on the node: interfaces are tried in a network namespace of its own, and what is sent are echo requests to other nodes (`--no-probe` leaves them out).
The exit status is 1 where a check fails, else 0; 2 where the arguments make no sense.

```
fairlead-agent doctor                        # all checks, for people
fairlead-agent doctor --only mtu,reach       # some of them
fairlead-agent doctor --kubeconfig FILE      # before installing: does the API server answer?
fairlead-agent doctor -o json                # for machines
fairlead-agent doctor --list                 # the names
```

## Verdicts

| verdict | in JSON | meaning |
|---|---|---|
| FAILURE | `failure` | something does not work, or will not |
| warning | `warning` | something may not work |
| could not tell | `could-not-tell` | what is needed to know could not be read; why is said |
| ok | `ok` | as it should be |
| not applicable | `not-applicable` | there is nothing of the kind on this node |

## JSON

An object with `version` (of the program), `summary` (`failures`, `warnings`, `could_not_tell`, `ok`, `not_applicable`: how many findings) and `findings`, the worst first.
A finding has `check`, `verdict`, `found`, and of a failure or a warning `affects` and `remedy`, which are null else.
A check may have several findings, and has at least one.
Names and verdicts stay as they are; fields and checks may be added.

## Checks

Those that need an agent could not tell without one.

| check | looks at | affects | needs an agent |
|---|---|---|---|
";
