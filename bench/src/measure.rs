//! Timing: many batches, of which the fastest counts.
//!
//! What else runs on the machine only ever makes a batch slower, so the fastest one comes closest to what
//! the work itself takes; the median tells how far to trust it. What one thread does without waiting is timed by that
//! thread's own clock, which stands still while others run: alone on a machine the two clocks show the same.
//! Held against Go a batch is long enough for what Go's allocations cost it: a short one may end before the garbage
//! is collected.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// How long a batch takes at least: long enough for the clock, short enough to run between two interruptions.
pub const BATCH: Duration = Duration::from_millis(1);

/// What a case took.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Which one.
    pub case: String,
    /// Nanoseconds for one, in the fastest batch.
    pub ns: f64,
    /// Nanoseconds for one, in the median batch.
    pub median_ns: f64,
    /// Anything else that is worth knowing.
    pub notes: Vec<(&'static str, Value)>,
}

impl Measurement {
    /// A case of which each sample is the time of one piece of work, in nanoseconds.
    ///
    /// # Panics
    ///
    /// Without samples.
    #[must_use]
    pub fn of(case: impl Into<String>, mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Self {
            case: case.into(),
            ns: samples[0],
            median_ns: samples[samples.len() / 2],
            notes: Vec::new(),
        }
    }

    /// Adds something worth knowing.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.notes.push((name, value.into()));
        self
    }

    /// As one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "case": self.case,
            "ns": (self.ns * 10.0).round() / 10.0,
            "median_ns": (self.median_ns * 10.0).round() / 10.0,
        });
        for (name, note) in &self.notes {
            value[*name] = note.clone();
        }
        value
    }
}

/// What is to be measured, how long, and what came of it.
#[derive(Debug)]
pub struct Run {
    /// For each case, at least.
    pub budget: Duration,
    /// How long one measurement of a quick case takes.
    pub batch: Duration,
    /// Of work that is done a given number of times.
    pub repetitions: usize,
    /// Parts of the names of the cases to measure; all if there are none.
    pub only: Vec<String>,
    /// What was measured.
    pub measurements: Vec<Measurement>,
}

impl Run {
    /// Whether a case is to be measured.
    #[must_use]
    pub fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| case.contains(part.as_str()))
    }

    /// Keeps a measurement.
    pub fn keep(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
    }

    /// Times work of so many units, several times, if it is wanted. The last repetition's notes are kept.
    ///
    /// # Errors
    ///
    /// Those of the work.
    pub async fn counted(
        &mut self,
        case: &str,
        units: usize,
        mut work: impl AsyncFnMut(usize) -> Result<Vec<(&'static str, Value)>>,
    ) -> Result<()> {
        if !self.wants(case) {
            return Ok(());
        }
        let mut samples = Vec::new();
        let mut notes = Vec::new();
        for repetition in 0..self.repetitions {
            let start = Instant::now();
            notes = work(repetition).await?;
            samples.push(start.elapsed().as_secs_f64() * 1e9 / units as f64);
        }
        let mut measurement = Measurement::of(case, samples);
        measurement.notes = notes;
        self.keep(measurement);
        Ok(())
    }

    /// Times work of this thread that is too short to be timed alone, if it is wanted: `work(n)` does it `n` times.
    pub fn quick(&mut self, case: &str, work: impl FnMut(u64)) {
        if self.wants(case) {
            let measurement = batches_of(self.batch, thread_time, case, self.budget, work);
            self.keep(measurement);
        }
    }

    /// The same for work that other threads do.
    pub fn quick_elsewhere(&mut self, case: &str, work: impl FnMut(u64)) {
        if self.wants(case) {
            let measurement = batches_of(self.batch, time, case, self.budget, work);
            self.keep(measurement);
        }
    }

    /// Adds something worth knowing to a case, if it was measured.
    pub fn note(&mut self, case: &str, name: &'static str, value: impl FnOnce() -> Value) {
        let measured = self
            .measurements
            .iter_mut()
            .rfind(|measured| measured.case == case);
        if let Some(measured) = measured {
            measured.notes.push((name, value()));
        }
    }
}

/// Times work that is too short to be timed alone, for so long: `work(n)` does it `n` times.
pub fn batches(case: &str, budget: Duration, work: impl FnMut(u64)) -> Measurement {
    batches_of(BATCH, time, case, budget, work)
}

fn batches_of(
    batch: Duration,
    time: fn(&mut dyn FnMut()) -> Duration,
    case: &str,
    budget: Duration,
    mut work: impl FnMut(u64),
) -> Measurement {
    let mut count = 1;
    let elapsed = loop {
        let elapsed = time(&mut || work(count));
        if elapsed >= batch / 4 {
            break elapsed;
        }
        count *= 4;
    };
    let scale = batch.as_secs_f64() / elapsed.as_secs_f64();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and small"
    )]
    let count = ((count as f64 * scale) as u64).max(1);
    let deadline = Instant::now() + budget;
    let mut samples = Vec::new();
    while samples.len() < 5 || Instant::now() < deadline {
        samples.push(time(&mut || work(count)).as_secs_f64() * 1e9 / count as f64);
    }
    Measurement::of(case, samples)
}

/// How long something takes.
pub fn time(work: &mut dyn FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// How long this thread works on something.
fn thread_time(work: &mut dyn FnMut()) -> Duration {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("each thread has a clock");
    let start = now();
    work();
    Duration::from(now()) - Duration::from(start)
}

/// The time that the processors have spent on this process. Unlike the wall clock it does not count what
/// else runs on the machine.
///
/// # Panics
///
/// If the system does not tell.
#[must_use]
pub fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("there is a process to ask about");
    let part = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(
            u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0),
        )
    };
    part(usage.user_time()) + part(usage.system_time())
}

/// Runs work as services do: in a task. A thread that only waits for a runtime is woken by another one for each answer.
///
/// # Errors
///
/// Those of the work.
pub async fn in_a_task<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await?
}
