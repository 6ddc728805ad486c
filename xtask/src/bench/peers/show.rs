//! The table for a terminal, and those of the pages.

use super::super::results::{Results, Samples};
use super::super::show::{line, or_nothing, percent, ratio, time};
use super::{ALL, Peer};

/// A peer's figures, in nanoseconds.
struct Figures {
    encrypt: Option<f64>,
    decrypt: Option<f64>,
    /// The larger of both.
    spread: Option<f64>,
}

impl Figures {
    fn of(peer: &Peer, results: &Results) -> Self {
        let samples = [peer.encrypt(), peer.decrypt()].map(|case| results.ours.get(&case));
        let [encrypt, decrypt] = samples.map(|samples| samples.and_then(Samples::best));
        let spreads = samples.map(|samples| samples.and_then(Samples::spread));
        Self {
            encrypt,
            decrypt,
            spread: spreads.into_iter().flatten().reduce(f64::max),
        }
    }

    fn both(&self) -> Option<f64> {
        Some(self.encrypt? + self.decrypt?)
    }
}

/// Encrypting, decrypting, both, and how many times ours that is.
fn figures(peer: &Peer, results: &Results) -> [String; 5] {
    let figures = Figures::of(peer, results);
    let ours = Figures::of(&ALL[0], results).both();
    let times = figures.both().zip(ours).map(|(both, ours)| both / ours);
    [
        peer.name.to_owned(),
        or_nothing(figures.encrypt, time),
        or_nothing(figures.decrypt, time),
        or_nothing(figures.both(), time),
        or_nothing(times, ratio),
    ]
}

/// All figures, in columns.
pub(super) fn table(peers: &[Peer], results: &Results) -> String {
    let heads = ["a row of 1 KiB", "encrypt", "decrypt", "both", "times ours"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(peers.iter().map(|peer| figures(peer, results)));
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let [name, rest @ ..]: [usize; 5] = std::array::from_fn(width);
    let shown = |row: &[String; 5]| {
        let [a, b, c, d, e] = row;
        let [w, x, y, z] = rest;
        format!("{a:<name$}  {b:>w$}  {c:>x$}  {d:>y$}  {e:>z$}\n")
    };
    rows.iter().map(shown).collect()
}

/// The figures with the two things that explain most of them, as Markdown.
pub(super) fn short_markdown(peers: &[Peer], results: &Results) -> String {
    let head = "| a row of 1 KiB | encrypt | decrypt | both | times kms-kit | keys | calls per row |\n\
                |---|---:|---:|---:|---:|---|---|\n";
    let of = |peer: &Peer| {
        let remarks = [peer.keys, peer.calls].map(str::to_owned);
        line(&[figures(peer, results).as_slice(), &remarks].concat())
    };
    let lines: String = peers.iter().map(of).collect();
    format!("{head}{lines}\n{}", below(results))
}

/// The figures, and what each does and doesn't do, as Markdown.
pub(super) fn whole_markdown(peers: &[Peer], results: &Results) -> String {
    let head = "| a row of 1 KiB | encrypt | decrypt | both | times kms-kit | spread |\n\
                |---|---:|---:|---:|---:|---:|\n";
    let of = |peer: &Peer| {
        let spread = or_nothing(Figures::of(peer, results).spread, percent);
        line(&[figures(peer, results).as_slice(), &[spread]].concat())
    };
    let lines: String = peers.iter().map(of).collect();
    let remarks_head = "| | keys | cached in the process | calls per row | commitment, signature | where keys are |\n\
         |---|---|---|---|---|---|\n";
    let remarks = |peer: &Peer| {
        let cells = [
            peer.name,
            peer.keys,
            peer.cached,
            peer.calls,
            peer.commitment,
            peer.place,
        ];
        line(&cells.map(str::to_owned))
    };
    let remarks: String = peers.iter().map(remarks).collect();
    format!("{head}{lines}\n{remarks_head}{remarks}\n{}", below(results))
}

/// What was left out, and where the rest was measured.
fn below(results: &Results) -> String {
    let one_line = |missing: &String| missing.split_whitespace().collect::<Vec<_>>().join(" ");
    let missing = results.missing.iter().map(one_line);
    let missing = missing.map(|missing| format!("Left out: {missing}.\n\n"));
    let missing: String = missing.collect();
    format!("{missing}{}\n", results.circumstances)
}

#[cfg(test)]
mod tests {
    use super::super::super::results::{Results, Samples};
    use super::super::ALL;
    use super::{short_markdown, table, whole_markdown};

    fn results() -> Results {
        let mut results = Results {
            circumstances: "Two processors, today.".to_owned(),
            missing: vec!["Asherah for Go: no Go\non this machine".to_owned()],
            ..Results::default()
        };
        let mut keep = |case: &str, rounds: &[f64]| {
            let rounds = rounds.to_vec();
            let samples = Samples {
                rounds,
                ..Samples::default()
            };
            results.ours.insert(case.to_owned(), samples);
        };
        keep("kms_kit_encrypt_1024", &[330.0, 300.0]);
        keep("kms_kit_decrypt_1024", &[200.0]);
        keep("tink_encrypt_1024", &[700.0]);
        keep("tink_decrypt_1024", &[550.0]);
        results
    }

    #[test]
    fn each_peer_is_held_against_ours_and_what_is_missing_has_dashes() {
        let table = table(ALL, &results());
        assert_eq!(table.lines().count(), ALL.len() + 1);
        let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row("Tink").contains("1.25 µs"), "{table}");
        assert!(row("Tink").ends_with("2.50"), "{table}");
        assert!(row("Asherah").ends_with('–'), "{table}");
    }

    #[test]
    fn pages_say_what_was_left_out_and_where_the_rest_was_measured() {
        for page in [
            short_markdown(ALL, &results()),
            whole_markdown(ALL, &results()),
        ] {
            let left_out =
                "Left out: Asherah for Go: no Go on this machine.\n\nTwo processors, today.\n";
            assert!(page.ends_with(left_out), "{page}");
            assert!(
                page.contains("| kms-kit | 300 ns | 200 ns | 500 ns | 1.00 |"),
                "{page}"
            );
        }
        let whole = whole_markdown(ALL, &results());
        assert!(whole.contains("| 1.00 | 10 % |"), "{whole}");
        assert!(whole.contains(ALL[2].commitment), "{whole}");
    }
}
