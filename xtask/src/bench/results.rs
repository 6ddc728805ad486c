//! What was measured, and its JSON.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// The figures of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Results {
    /// The machine, the programs and the day.
    pub(crate) circumstances: String,
    pub(crate) ours: BTreeMap<String, Samples>,
    pub(crate) go: BTreeMap<String, Samples>,
    /// What could not be had, and why.
    pub(crate) missing: Vec<String>,
}

/// What a case took, round by round, in nanoseconds; and what was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples {
    pub(crate) rounds: Vec<f64>,
    pub(crate) counts: BTreeMap<String, f64>,
}

impl Results {
    /// Keeps a line that a program printed, and of its times the one with this name.
    pub(crate) fn keep(of: &mut BTreeMap<String, Samples>, time: &str, line: &str) -> Result<()> {
        let line: Value = serde_json::from_str(line)?;
        let line = line.as_object().context("not an object")?;
        let case = line.get("case").and_then(Value::as_str);
        let ns = line.get(time).and_then(Value::as_f64);
        let (case, ns) = case.zip(ns).context("no case or no time")?;
        let samples = of.entry(case.to_owned()).or_default();
        samples.rounds.push(ns);
        for (name, value) in line {
            if let Some(value) = value.as_f64().filter(|_| !is_time(name)) {
                // The most of all rounds: a count has to hold in each.
                let count = samples.counts.entry(name.clone()).or_insert(value);
                *count = count.max(value);
            }
        }
        Ok(())
    }

    pub(crate) fn to_json(&self) -> Value {
        let of = |samples: &BTreeMap<String, Samples>| -> Map<String, Value> {
            let each = |(case, samples): (&String, &Samples)| (case.clone(), samples.to_json());
            samples.iter().map(each).collect()
        };
        json!({
            "circumstances": self.circumstances,
            "missing": self.missing,
            "ours": of(&self.ours),
            "go": of(&self.go),
        })
    }

    pub(crate) fn from_json(value: &Value) -> Result<Self> {
        let of = |who: &str| {
            let samples = value[who].as_object();
            let samples = samples.with_context(|| format!("no figures of `{who}`"))?;
            let each = |(case, value)| Ok((String::clone(case), Samples::from_json(value)?));
            samples.iter().map(each).collect::<Result<_>>()
        };
        let missing = value["missing"]
            .as_array()
            .context("no list of what is missing")?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(Self {
            circumstances: text(&value["circumstances"]).context("no circumstances")?,
            ours: of("ours")?,
            go: of("go")?,
            missing: missing.iter().filter_map(text).collect(),
        })
    }
}

impl Samples {
    /// That of the fastest round.
    pub(crate) fn best(&self) -> Option<f64> {
        self.rounds.iter().copied().reduce(f64::min)
    }

    /// By what part the slowest round took longer than the fastest.
    pub(crate) fn spread(&self) -> Option<f64> {
        let slowest = self.rounds.iter().copied().reduce(f64::max)?;
        Some(slowest / self.best()? - 1.0)
    }

    fn to_json(&self) -> Value {
        json!({ "rounds_ns": self.rounds, "counts": self.counts })
    }

    fn from_json(value: &Value) -> Result<Self> {
        let number = |value: &Value| value.as_f64().context("not a number");
        let rounds = value["rounds_ns"].as_array().context("no rounds")?;
        let counts = value["counts"].as_object().context("no counts")?;
        let count = |(name, value): (&String, &Value)| Ok((name.clone(), number(value)?));
        Ok(Self {
            rounds: rounds.iter().map(number).collect::<Result<_>>()?,
            counts: counts.iter().map(count).collect::<Result<_>>()?,
        })
    }
}

fn is_time(name: &str) -> bool {
    name == "ns" || name.ends_with("_ns")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::Results;

    fn kept(lines: &[&str]) -> Results {
        let mut ours = BTreeMap::new();
        for line in lines {
            Results::keep(&mut ours, "ns", line).unwrap();
        }
        Results {
            circumstances: "a machine, a day".to_owned(),
            ours,
            go: BTreeMap::new(),
            missing: vec!["go: none".to_owned()],
        }
    }

    #[test]
    fn of_several_rounds_the_fastest_counts_and_the_most_of_what_was_counted() {
        let results = kept(&[
            r#"{"case": "cold", "ns": 30.0, "median_ns": 40.0, "round_trips": 2}"#,
            r#"{"case": "cold", "ns": 20.0, "median_ns": 90.0, "round_trips": 1}"#,
        ]);
        let cold = &results.ours["cold"];
        assert_eq!(cold.best(), Some(20.0));
        assert_eq!(cold.spread(), Some(0.5));
        assert_eq!(
            cold.counts,
            BTreeMap::from([("round_trips".to_owned(), 2.0)])
        );
    }

    #[test]
    fn results_read_back_from_json_as_they_were() {
        let results = kept(&[r#"{"case": "cold", "ns": 30.25, "queries": 0.5, "go": "go1.26"}"#]);
        let text = results.to_json().to_string();
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(Results::from_json(&read).unwrap(), results);
        assert!(Results::from_json(&Value::Null).is_err());
    }

    #[test]
    fn a_line_that_is_no_measurement_is_refused() {
        let mut ours = BTreeMap::new();
        for line in ["", "{}", r#"{"case": "cold"}"#, r#"{"ns": 1}"#] {
            assert!(Results::keep(&mut ours, "ns", line).is_err(), "{line}");
        }
        assert!(ours.is_empty());
    }
}
