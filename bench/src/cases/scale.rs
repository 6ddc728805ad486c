//! What a scope costs among 100 and among 100,000: it should be the same.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::database::Database;
use crate::measure::{Measurement, Run};

mod growth;
mod heap;
mod pages;
mod world;

pub use growth::FLAT;
use growth::Growths;
use world::{SAMPLE, World};

/// How long a case that works on all scopes is repeated.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is measured, in this order: what adds versions comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// The same few scopes again and again, whatever else there is.
    Cached,
    /// The first use of a scope by a process that has just started.
    Cold,
    /// With a tenth of the cache that it would take: what is not there is loaded, and costs no more than a load.
    SmallCache,
    /// The first use after any other scope was changed, by whomever: the rows are read, and nothing is opened.
    AfterAChange,
    List,
    ReconcileNothingMissing,
    Census,
    /// Every scope in the cache, each used as often as any other: what each takes of memory, and what a wrapper costs
    /// when no processor's own cache holds them. Its time grows with the distance to the memory.
    AllCached,
    RotateAll,
    RotateAllWithRewrap,
}

impl Case {
    const ALL: [Self; 10] = [
        Self::Cached,
        Self::Cold,
        Self::SmallCache,
        Self::AfterAChange,
        Self::List,
        Self::ReconcileNothingMissing,
        Self::Census,
        Self::AllCached,
        Self::RotateAll,
        Self::RotateAllWithRewrap,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Cold => "cold",
            Self::SmallCache => "small_cache_miss",
            Self::AfterAChange => "after_a_change",
            Self::List => "list",
            Self::ReconcileNothingMissing => "reconcile_nothing_missing",
            Self::Census => "census",
            Self::AllCached => "all_cached",
            Self::RotateAll => "rotate_all",
            Self::RotateAllWithRewrap => "rotate_all_with_rewrap",
        }
    }

    /// Whether one time is enough: it gives many samples, or takes all that there is to take.
    fn is_once(self) -> bool {
        matches!(
            self,
            Self::AllCached | Self::RotateAll | Self::RotateAllWithRewrap
        )
    }
}

/// Measures among these numbers of scopes, each in a database of its own, and then the growth from one to the
/// next. They take turns, so that what else runs on the machine disturbs all of them alike.
///
/// # Errors
///
/// Those of the engine and of the database.
pub async fn run(
    make: impl Fn() -> Result<Database>,
    sizes: &[usize],
    run: &mut Run,
) -> Result<()> {
    let mut worlds = Vec::new();
    for size in sizes {
        ensure!(*size >= SAMPLE, "at least {SAMPLE} scopes, not {size}");
        worlds.push(World::new(make()?, *size).await?);
    }
    let mut growths = Growths::default();
    for case in Case::ALL {
        let name = case.name();
        if !run.wants(&format!("scale_{name}")) {
            continue;
        }
        eprintln!("scale: {name}");
        for measurement in measure(&mut worlds, case, run).await? {
            growths.add(name, case != Case::AllCached, &measurement);
            run.keep(measurement);
        }
    }
    for growth in growths.into_measurements() {
        run.keep(growth);
    }
    Ok(())
}

/// One measurement for each world.
async fn measure(worlds: &mut [World], case: Case, run: &Run) -> Result<Vec<Measurement>> {
    let mut samples = vec![Vec::new(); worlds.len()];
    let mut notes = vec![Vec::new(); worlds.len()];
    let mut spent = vec![Duration::ZERO; worlds.len()];
    let repetitions = if case.is_once() { 1 } else { run.repetitions };
    for _ in 0..repetitions {
        for (position, world) in worlds.iter_mut().enumerate() {
            if spent[position] > PATIENCE {
                continue;
            }
            let start = Instant::now();
            let sampled = world.sample(case, run.budget).await?;
            spent[position] += start.elapsed();
            samples[position].extend(sampled.times);
            notes[position] = sampled.notes;
        }
    }
    let measured = worlds.iter_mut().zip(samples).zip(notes);
    let measured = measured.map(|((world, samples), mut notes)| {
        let name = format!("scale_{}_{}", case.name(), world.size());
        let mut measurement = Measurement::of(name, samples).with("scopes", world.size());
        measurement.notes.append(&mut notes);
        match case {
            Case::Cold => {
                world.cold = Some(measurement.ns);
                measurement
            }
            Case::SmallCache => match world.cold {
                Some(cold) => {
                    let times = (measurement.ns / cold * 100.0).round() / 100.0;
                    measurement.with("times_a_cold_load", times)
                }
                None => measurement,
            },
            _ => measurement,
        }
    });
    Ok(measured.collect())
}

/// The cases of which a scope costs more among many, by what [`run`] measured.
#[must_use]
pub fn grown(measurements: &[Measurement]) -> Vec<String> {
    let has_grown = |measurement: &&Measurement| {
        let mut notes = measurement.notes.iter();
        notes.any(|(name, value)| *name == "flat" && *value == Value::Bool(false))
    };
    let grown = measurements.iter().filter(has_grown);
    grown.map(|measurement| measurement.case.clone()).collect()
}
