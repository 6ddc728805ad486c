//! Every operation of the engine, on each root.

use crate::process::Process;
use crate::root::Root;
use crate::support::Database;

crate::on_each_root! {
    keys_are_created_used_rotated_rewrapped_listed_and_revoked
    another_process_starts_cold_with_what_is_in_the_database
    a_root_of_another_key_opens_nothing
}

async fn keys_are_created_used_rotated_rewrapped_listed_and_revoked(
    database: &Database,
    root: &Root,
) {
    database.execute("insert into organization (id) values ('o_1')");
    let mut process = Process::start(database, root, &[]);
    process.ask("preflight");
    process.ask("create o_1");
    let first = process.ask("encrypt o_1 first");
    process.ask("rotate o_1");
    let second = process.ask("encrypt o_1 second");
    process.ask("rotate+rewrap o_1");
    process.ask("rewrap o_1");
    assert_eq!(process.ask(&format!("decrypt o_1 {first}")), "first");
    assert_eq!(process.ask(&format!("decrypt o_1 {second}")), "second");

    // A root key and two data keys, three versions each.
    let versions = process.ask("versions o_1");
    let versions: Vec<_> = versions.split(' ').collect();
    assert_eq!(versions.len(), 9, "{versions:?}");
    assert_eq!(process.ask("census"), format!("{}=3", root.key_id));

    // After the rewrapping the two older root key versions wrap nothing.
    let newest = process.try_ask(&format!("revoke {}", versions[2]));
    assert_eq!(newest.unwrap_err().kind, "NewestVersion");
    process.ask(&format!("revoke {}", versions[0]));
    process.ask(&format!("revoke {}", versions[1]));
    assert_eq!(process.ask("census"), format!("{}=1", root.key_id));
    assert_eq!(process.ask(&format!("decrypt o_1 {first}")), "first");
}

async fn another_process_starts_cold_with_what_is_in_the_database(
    database: &Database,
    root: &Root,
) {
    database.execute("insert into organization (id) values ('o_1')");
    let mut process = Process::start(database, root, &[]);
    process.ask("create o_1");
    let blob = process.ask("encrypt o_1 warm");
    process.ask("rotate o_1");
    process.kill();
    let mut process = Process::start(database, root, &[]);
    assert_eq!(process.ask(&format!("decrypt o_1 {blob}")), "warm");
    process.ask("encrypt o_1 cold");
}

async fn a_root_of_another_key_opens_nothing(database: &Database, root: &Root) {
    database.execute("insert into organization (id) values ('o_1')");
    let mut process = Process::start(database, root, &[]);
    process.ask("create o_1");
    let blob = process.ask("encrypt o_1 mine");
    let stranger = Root::new(root.kind()).await.unwrap();
    let mut process = Process::start_with_new_root(database, &stranger);
    let refusal = process.try_ask(&format!("decrypt o_1 {blob}")).unwrap_err();
    assert_eq!(refusal.kind, "ForeignRootKey", "{}", refusal.message);
    let refusal = process.try_ask("rotate+rewrap o_1").unwrap_err();
    assert_eq!(refusal.kind, "ForeignRootKey", "{}", refusal.message);
}
