//! Making keys and changing them: one scope after the other, and many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};
use kms_kit::{
    CampaignOptions, ErrorKind, KeyConnection as _, Kms, PooledWrapper, Repository, Rewrap,
    RewrapKeys, Wrapper,
};

use crate::database::Database;
use crate::measure::{Run, in_a_task};
use crate::world::{PURPOSES, builder, create_together, local_root, scope};

/// Scopes of a case.
const SCOPES: usize = 50;
/// Scopes of a case that does many at once.
const MANY: usize = 400;

/// Measures on databases that `make` makes, anew for each measurement where versions would add up.
///
/// # Errors
///
/// Those of the engine.
pub async fn run(make: impl Fn() -> Result<Database>, run: &mut Run) -> Result<()> {
    let root = local_root("bench-root")?;
    let database = make()?;
    let repository = database.repository()?;
    floor(&repository, database.kind(), run).await?;
    let kms = builder(Arc::clone(&repository), &root).build().await?;
    create(&kms, &repository, database.kind(), run).await?;
    change(&kms, &repository, database.kind(), run).await?;
    rotate_all(&make, &root, run).await?;
    rewrap_all(&make, &root, run).await
}

/// One transaction of the least kind, the way every one goes: it writes one row.
async fn floor(repository: &Arc<dyn Repository>, kind: &str, run: &mut Run) -> Result<()> {
    repository.scramble_collection_version().await?;
    run.counted(&format!("floor_commit_{kind}"), SCOPES, async |_| {
        for _ in 0..SCOPES {
            repository.scramble_collection_version().await?;
        }
        Ok(Vec::new())
    })
    .await
}

async fn create(
    kms: &Kms,
    repository: &Arc<dyn Repository>,
    kind: &str,
    run: &mut Run,
) -> Result<()> {
    let mut next = 0;
    run.counted(&format!("create_keys_{kind}"), SCOPES, async |_| {
        let (kms, first) = (kms.clone(), next + 1);
        next += SCOPES;
        in_a_task(async move {
            for number in first..=next {
                kms.create_keys(&scope(number), &PURPOSES).await?;
            }
            Ok(Vec::new())
        })
        .await
    })
    .await?;
    run.counted(
        &format!("create_keys_batch_of_100_{kind}"),
        200,
        async |_| {
            for _ in 0..2 {
                let first = next + 1;
                next += 100;
                create_together(kms, repository, first..=next).await?;
            }
            Ok(Vec::new())
        },
    )
    .await
}

async fn change(
    kms: &Kms,
    repository: &Arc<dyn Repository>,
    kind: &str,
    run: &mut Run,
) -> Result<()> {
    let mut next = 1_000_000;
    let cases = [
        (format!("rotate_keys_{kind}"), Some(Rewrap::No)),
        (format!("rotate_keys_rewrap_{kind}"), Some(Rewrap::Yes)),
        (format!("rewrap_keys_{kind}"), None),
    ];
    for (case, rewrap) in cases {
        if !run.wants(&case) {
            continue;
        }
        let mut rounds = Vec::new();
        for _ in 0..run.repetitions {
            rounds.push(create_together(kms, repository, next..=next + SCOPES - 1).await?);
            next += SCOPES;
        }
        run.counted(&case, SCOPES, async |repetition| {
            let (kms, scopes) = (kms.clone(), rounds[repetition].clone());
            in_a_task(async move {
                for scope in &scopes {
                    match rewrap {
                        Some(rewrap) => kms.rotate_keys(scope, rewrap).await?,
                        None => kms.rewrap_keys(scope, RewrapKeys::All).await?,
                    }
                }
                Ok(Vec::new())
            })
            .await
        })
        .await?;
    }
    Ok(())
}

/// Databases with scopes that have one version of each key, one for each repetition.
async fn worlds(
    make: &impl Fn() -> Result<Database>,
    root: &Arc<dyn Wrapper>,
    count: usize,
) -> Result<Vec<Database>> {
    let mut all = Vec::new();
    for _ in 0..count {
        let database = make()?;
        let repository = database.repository()?;
        let kms = builder(Arc::clone(&repository), root).build().await?;
        for first in (1..MANY).step_by(100) {
            create_together(&kms, &repository, first..=first + 99).await?;
        }
        all.push(database);
    }
    Ok(all)
}

async fn rotate_all(
    make: &impl Fn() -> Result<Database>,
    root: &Arc<dyn Wrapper>,
    run: &mut Run,
) -> Result<()> {
    let case = format!("rotate_all_{}", make()?.kind());
    if !run.wants(&case) {
        return Ok(());
    }
    let worlds = worlds(make, root, run.repetitions).await?;
    let mut engines = Vec::new();
    for database in &worlds {
        engines.push(builder(database.repository()?, root).build().await?);
    }
    run.counted(&case, MANY, async |repetition| {
        let options = CampaignOptions::new("bench");
        let outcome = engines[repetition]
            .rotate_all(&options, Rewrap::Yes, |_| {})
            .await?;
        let outcome = outcome.report().context("it was finished before")?;
        whole(outcome.done)?;
        Ok(Vec::new())
    })
    .await
}

/// To a new root key, as a fleet does when it moves.
async fn rewrap_all(
    make: &impl Fn() -> Result<Database>,
    root: &Arc<dyn Wrapper>,
    run: &mut Run,
) -> Result<()> {
    let case = format!("rewrap_all_{}", make()?.kind());
    if !run.wants(&case) {
        return Ok(());
    }
    let worlds = worlds(make, root, run.repetitions).await?;
    let new = PooledWrapper::new(local_root("new-root")?).with_decrypting(Arc::clone(root))?;
    let new: Arc<dyn Wrapper> = Arc::new(new);
    let mut engines = Vec::new();
    for database in &worlds {
        engines.push(builder(database.repository()?, &new).build().await?);
    }
    run.counted(&case, MANY, async |repetition| {
        let options = CampaignOptions::new("bench");
        let outcome = engines[repetition]
            .rewrap_all(&options, RewrapKeys::All, |_| {})
            .await?;
        let outcome = outcome.report().context("it was finished before")?;
        whole(outcome.done)?;
        Ok(Vec::new())
    })
    .await
}

fn whole(done: u64) -> Result<()> {
    let all = u64::try_from(MANY)?;
    (done == all)
        .then_some(())
        .with_context(|| format!("{done} of {all} scopes were done"))
}

/// Scopes that applications create in transactions of their own, each open for longer than the creation takes.
///
/// # Errors
///
/// Those of the engine and of the database.
///
/// # Panics
///
/// If one of the callers does.
pub async fn long_transactions(database: &Database, run: &mut Run) -> Result<()> {
    const OPEN: Duration = Duration::from_millis(20);
    let case = "create_in_32_long_transactions_postgres";
    let Database::Postgres { url, .. } = database else {
        return Ok(());
    };
    if !run.wants(case) {
        return Ok(());
    }
    let root = local_root("bench-root")?;
    let kms = builder(database.repository()?, &root).build().await?;
    let mut connections = Vec::new();
    for _ in 0..CALLERS {
        connections.push(PgConnection::establish(url)?);
    }
    let mut next = 5_000_000;
    let mut together = |while_open: &(dyn Fn(bool) + Sync)| -> Result<()> {
        let first = next;
        next += CALLERS;
        create_at_once(&kms, &mut connections, first, while_open)
    };
    // All stay open until each has written its keys, or has given up waiting for another.
    let (arrived, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let patience = Instant::now() + Duration::from_secs(30);
    together(&|wrote| {
        waiting.fetch_add(usize::from(!wrote), Ordering::SeqCst);
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < CALLERS && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
    })?;
    let waiting = waiting.into_inner();
    run.counted(case, CALLERS, async |_| {
        together(&|_| std::thread::sleep(OPEN))?;
        Ok(vec![("waiting", waiting.into())])
    })
    .await
}

/// Callers at once.
const CALLERS: usize = 32;

/// Each caller creates a scope in a transaction of its own, does `while_open`, which is told whether it could
/// write the keys without waiting for long, and commits.
fn create_at_once(
    kms: &Kms,
    connections: &mut [PgConnection],
    first: usize,
    while_open: &(dyn Fn(bool) + Sync),
) -> Result<()> {
    let handle = tokio::runtime::Handle::current();
    let create = |connection: &mut PgConnection, number: usize| -> Result<()> {
        let scope = scope(first + number);
        let prepared = handle.block_on(kms.prepare_create_keys(&scope, &PURPOSES))?;
        let receipts = connection.transaction(|connection| {
            connection.batch_execute("set local lock_timeout = '3s'")?;
            let receipts = connection.apply_changes(&[prepared.change_set()]);
            let wrote = match &receipts {
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::DatabaseBusy => false,
                Err(_) => return anyhow::Ok(receipts?),
            };
            while_open(wrote);
            Ok(receipts.unwrap_or_default())
        })?;
        kms.accept(&receipts);
        Ok(())
    };
    let create = &create;
    let results: Vec<Result<()>> = tokio::task::block_in_place(|| {
        std::thread::scope(|spawner| {
            let callers: Vec<_> = connections
                .iter_mut()
                .enumerate()
                .map(|(number, connection)| spawner.spawn(move || create(connection, number)))
                .collect();
            callers
                .into_iter()
                .map(|caller| caller.join().expect("it does not panic"))
                .collect()
        })
    });
    results.into_iter().collect()
}
