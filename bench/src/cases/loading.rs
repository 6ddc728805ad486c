//! Getting keys that are not in the cache: on first use, and after a change elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use kms_kit::Rewrap;
use kms_kit::core::MemoryRepository;
use kms_kit::{Freshness, Kms, Repository, ScopeId, Wrapper};
use kms_testkit::{CountingWrapper, InstrumentedRepository, ManualClock};

use crate::database::Database;
use crate::measure::{Measurement, Run, in_a_task};
use crate::statements;
use crate::world::{PURPOSES, SCOPES, builder, create, local_root};

/// Measures on this database.
///
/// # Errors
///
/// Those of the engine.
pub async fn run(database: &Database, run: &mut Run) -> Result<()> {
    let root = local_root("bench-root")?;
    let kms = builder(database.repository()?, &root).build().await?;
    let scopes = create(&kms, 0..SCOPES).await?;
    floor(database, &scopes, run).await?;
    // On one pool, as Go's engines have one: opening connections is another matter.
    cold(database.kind(), database.repository()?, &root, &scopes, run).await?;
    after_other_rotation(database, &root, &scopes, run).await?;
    list(&kms, database, &scopes, run).await?;
    reconcile(&kms, database, &scopes, run).await
}

/// What a load takes of our own: everything but the database.
///
/// # Errors
///
/// Those of the engine.
pub async fn in_memory(run: &mut Run) -> Result<()> {
    let root = local_root("bench-root")?;
    let repository: Arc<dyn Repository> = Arc::new(MemoryRepository::new());
    let kms = builder(Arc::clone(&repository), &root).build().await?;
    let scopes = create(&kms, 0..SCOPES).await?;
    cold("memory", repository, &root, &scopes, run).await
}

/// An engine whose calls are counted.
struct Counted {
    kms: Kms,
    queries: Arc<InstrumentedRepository>,
    root: Arc<CountingWrapper>,
    clock: Arc<ManualClock>,
}

impl Counted {
    async fn new(repository: Arc<dyn Repository>, root: &Arc<dyn Wrapper>) -> Result<Self> {
        let queries = Arc::new(InstrumentedRepository::new(repository));
        let root = Arc::new(CountingWrapper::new(Arc::clone(root)));
        let clock = Arc::new(ManualClock::new());
        let kms = builder(
            Arc::clone(&queries) as Arc<dyn Repository>,
            &(Arc::clone(&root) as Arc<dyn Wrapper>),
        )
        .freshness(Freshness::Within(Duration::from_secs(1)))
        .clock(Arc::clone(&clock) as _)
        .build()
        .await?;
        Ok(Self {
            kms,
            queries,
            root,
            clock,
        })
    }

    async fn use_each(&self, scopes: &[ScopeId]) -> Result<()> {
        let (kms, scopes) = (self.kms.clone(), scopes.to_vec());
        in_a_task(async move {
            for scope in &scopes {
                kms.wrapper(scope, &PURPOSES[0]).await?;
            }
            Ok(())
        })
        .await
    }
}

/// One query of the least kind, the way every query goes.
async fn floor(database: &Database, scopes: &[ScopeId], run: &mut Run) -> Result<()> {
    let repository = database.repository()?;
    let kind = database.kind();
    repository.collection_version(None).await?;
    run.counted(&format!("floor_query_{kind}"), scopes.len(), async |_| {
        for _ in scopes {
            repository.collection_version(None).await?;
        }
        Ok(Vec::new())
    })
    .await
}

async fn cold(
    kind: &str,
    repository: Arc<dyn Repository>,
    root: &Arc<dyn Wrapper>,
    scopes: &[ScopeId],
    run: &mut Run,
) -> Result<()> {
    let case = format!("wrapper_cold_{kind}");
    if !run.wants(&case) {
        return Ok(());
    }
    let mut samples = Vec::new();
    let count = scopes.len() as f64;
    let mut calls = (0, 0, 0);
    // Once before: connections are opened, and statements prepared, only once in the life of a process.
    for repetition in 0..=run.repetitions {
        let engine = Counted::new(Arc::clone(&repository), root).await?;
        let sent = statements::sent();
        let start = Instant::now();
        engine.use_each(scopes).await?;
        if repetition > 0 {
            samples.push(start.elapsed().as_secs_f64() * 1e9 / count);
        }
        let sent = statements::sent() - sent;
        calls = (
            engine.queries.calls().load,
            sent,
            engine.root.calls().decrypt,
        );
    }
    run.keep(
        Measurement::of(case, samples)
            .with("loads", calls.0 as f64 / count)
            .with("round_trips", calls.1 as f64 / count)
            .with("root_calls", calls.2 as f64 / count),
    );
    Ok(())
}

/// Of two engines the second changes one scope, the first has all of them cached. As in Go's case the rotation is
/// timed with it. What Go does on every call, ours does once in a window; so one window passes.
async fn after_other_rotation(
    database: &Database,
    root: &Arc<dyn Wrapper>,
    scopes: &[ScopeId],
    run: &mut Run,
) -> Result<()> {
    let case = format!("wrapper_after_other_rotation_{}", database.kind());
    let engine = Counted::new(database.repository()?, root).await?;
    let other = builder(database.repository()?, root).build().await?;
    let (rotated, others) = scopes.split_last().expect("there are scopes");
    engine.use_each(scopes).await?;
    run.counted(&case, scopes.len(), async |_| {
        other.rotate_keys(rotated, Rewrap::No).await?;
        engine.clock.advance(Duration::from_secs(2));
        let _ = (engine.queries.take(), engine.root.take());
        engine.use_each(others).await?;
        let (queries, root) = (engine.queries.calls(), engine.root.calls());
        Ok(vec![
            ("collection_queries", queries.collection_version.into()),
            (
                "row_queries_per_scope",
                (queries.load as f64 / others.len() as f64).into(),
            ),
            ("root_calls", root.decrypt.into()),
        ])
    })
    .await
}

async fn list(kms: &Kms, database: &Database, scopes: &[ScopeId], run: &mut Run) -> Result<()> {
    let case = format!("list_keys_{}", database.kind());
    run.counted(&case, scopes.len(), async |_| {
        for scope in scopes {
            kms.list_keys(scope).await?;
        }
        Ok(Vec::new())
    })
    .await
}

async fn reconcile(
    kms: &Kms,
    database: &Database,
    scopes: &[ScopeId],
    run: &mut Run,
) -> Result<()> {
    let case = format!("reconcile_nothing_missing_{}", database.kind());
    run.counted(&case, scopes.len(), async |_| {
        let sent = statements::sent();
        kms.reconcile_keys(kms_kit::Scopes::Only(scopes), &PURPOSES)
            .await?;
        Ok(vec![("queries", (statements::sent() - sent).into())])
    })
    .await
}
