//! From each root to each other: a fleet of two processes in the four steps, never both at the same one, and
//! the campaign interrupted in its middle.

use crate::process::Process;
use crate::root::{Kind, Root};
use crate::support::Database;

/// Scopes that are there before the move; the campaign takes two in a batch.
const SCOPES: [&str; 5] = ["o_1", "o_2", "o_3", "o_4", "o_5"];

macro_rules! moves {
    ($($module:ident $old:ident { $($name:ident $new:ident)* })*) => {$(
        mod $module {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::run(super::Kind::$old, super::Kind::$new).await;
            }
        )*}
    )*};
}

// The path of each test names every service that it needs: `matrix::aws::to_vault_on_postgres`.
moves! {
    aead Aead { to_aws_on_postgres Aws to_gcp_on_postgres Gcp to_vault_on_postgres Vault }
    aws Aws { to_aead_on_postgres Aead to_gcp_on_postgres Gcp to_vault_on_postgres Vault to_softhsm_on_postgres SoftHsm }
    gcp Gcp { to_aead_on_postgres Aead to_aws_on_postgres Aws to_vault_on_postgres Vault to_softhsm_on_postgres SoftHsm }
    vault Vault { to_aead_on_postgres Aead to_aws_on_postgres Aws to_gcp_on_postgres Gcp to_softhsm_on_postgres SoftHsm }
    softhsm SoftHsm { to_aead_on_postgres Aead to_aws_on_postgres Aws to_gcp_on_postgres Gcp to_vault_on_postgres Vault }
}

/// What was encrypted, by whatever process, and must never stop opening.
#[derive(Default)]
struct Records(Vec<(String, String, String)>);

impl Records {
    fn write(&mut self, process: &mut Process, scope: &str) {
        let text = format!("secret-{}", self.0.len());
        let blob = process.ask(&format!("encrypt {scope} {text}"));
        self.0.push((scope.to_owned(), blob, text));
    }

    fn all_open(&self, process: &mut Process) {
        for (scope, blob, text) in &self.0 {
            assert_eq!(&process.ask(&format!("decrypt {scope} {blob}")), text);
        }
    }
}

async fn run(old: Kind, new: Kind) {
    let database = Database::postgres();
    let (old, new) = (Root::new(old).await, Root::new(new).await);
    if let (Some(database), Some(old), Some(new)) = (database, old, new) {
        move_between(&database, &old, &new).await;
    }
}

async fn move_between(database: &Database, old: &Root, new: &Root) {
    let start =
        |encrypting: &Root, decrypting: &[&Root]| Process::start(database, encrypting, decrypting);
    let mut records = Records::default();
    let mut one = start(old, &[]);
    for scope in SCOPES {
        create(database, &mut one, scope);
        records.write(&mut one, scope);
    }

    // Step 1: the new root is known. One process after the other.
    let mut two = start(old, &[]);
    one = start(old, &[new]);
    work(database, &mut one, &mut two, &mut records, 1);
    two = start(old, &[new]);
    assert_eq!(under(database, new), 0);

    // Step 2: the new root encrypts. While the processes differ, both roots do.
    one = start(new, &[old]);
    work(database, &mut one, &mut two, &mut records, 2);
    assert!(under(database, new) > 0);
    two = start(new, &[old]);
    work(database, &mut two, &mut one, &mut records, 3);

    // Step 3: the campaign, whose process is killed after its first batch and started again in the other.
    let before = under(database, old);
    one.send("rewrap_all move");
    assert_eq!(one.line(), "done 2");
    one.kill();
    let halfway = under(database, old);
    assert!(0 < halfway && halfway < before, "{halfway} of {before}");
    two.send("rewrap_all move");
    let scopes = database.count("select count(*) as n from kms_root_key");
    let finished = loop {
        let line = two.line();
        if !line.starts_with("done ") {
            break line;
        }
        two.send("go on");
    };
    // No scope was done twice, and none left out.
    assert_eq!(finished, format!("ok finished {scopes}"));
    assert_eq!(under(database, old), 0);
    let census = two.ask("census");
    assert!(
        census.split(' ').all(|root| root.starts_with(&new.key_id)),
        "{census}"
    );

    // Step 4: the old root is gone.
    old.shut_down().await;
    let mut one = start(new, &[]);
    records.all_open(&mut one);
    records.all_open(&mut two);
    two = start(new, &[]);
    work(database, &mut two, &mut one, &mut records, 4);
}

/// Both processes change and use keys, and each opens what the other made.
fn work(
    database: &Database,
    one: &mut Process,
    two: &mut Process,
    records: &mut Records,
    step: usize,
) {
    for (process, scope) in [(&mut *one, "a"), (&mut *two, "b")] {
        let created = format!("{scope}_{step}");
        create(database, process, &created);
        records.write(process, &created);
        process.ask("rotate o_1");
        records.write(process, "o_1");
        process.ask("rotate+rewrap o_2");
        records.write(process, "o_2");
    }
    records.all_open(one);
    records.all_open(two);
}

fn create(database: &Database, process: &mut Process, scope: &str) {
    database.execute(&format!("insert into organization (id) values ('{scope}')"));
    process.ask(&format!("create {scope}"));
}

/// How many root key versions lie under this root: asked of the database, not of the engine.
fn under(database: &Database, root: &Root) -> i64 {
    database.count(&format!(
        "select count(*) as n from kms_root_key_version where position('{}'::bytea in key) > 0",
        root.key_id
    ))
}
