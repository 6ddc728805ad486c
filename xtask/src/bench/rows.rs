//! The rows of the table: what is measured, beside what, and what it has to reach.

use Target::{AtMost, Concurrent, TimesFloor, TimesGo};

/// Every row, in the order of the table.
pub(crate) const ALL: &[Row] = &[
    row("wrapper, cached", cached("wrapper_cached_postgres"))
        .go("wrapper_cached_postgres")
        .must(&[TimesGo(400.0), NO_ALLOCATION, AtMost("queries", 0.0)])
        .in_readme(),
    row(
        "… with the default freshness",
        cached("wrapper_cached_default_freshness"),
    )
    .go("wrapper_cached_postgres")
    .must(&[TimesGo(400.0), NO_ALLOCATION]),
    row("… SQLite", cached("wrapper_cached_sqlite"))
        .go("wrapper_cached_sqlite")
        .must(&[NO_ALLOCATION, AtMost("queries", 0.0)])
        .in_readme(),
    row("… 8 callers, per call", cached("wrapper_cached_8_callers"))
        .go("wrapper_cached_8_callers_postgres")
        .must(&[Concurrent {
            alone: cached("wrapper_cached_postgres"),
            least: 1.6,
            machine: MACHINE,
        }])
        .in_readme(),
    // Says how much of the second processor this program got while the row above was measured, and so what that
    // can reach.
    row("… the machine: sums by 2 threads", MACHINE.two_threads).floor(MACHINE.one_thread),
    row(
        "row of 1 KiB: wrapper, encrypt, serialize",
        cached("row_1024"),
    )
    .go("row_1024_postgres")
    .floor(blobs("floor_encrypt_ring_1024"))
    .must(&[TimesFloor(1.3)])
    .in_readme(),
    row("encrypt, serialize 32 B", blobs("encrypt_ring_32"))
        .go("encrypt_32")
        .floor(blobs("floor_encrypt_ring_32"))
        .must(&[ONE_ALLOCATION])
        .in_readme(),
    row("encrypt, serialize 1 KiB", blobs("encrypt_ring_1024"))
        .go("encrypt_1024")
        .floor(blobs("floor_encrypt_ring_1024"))
        .must(&[TimesFloor(1.15), ONE_ALLOCATION])
        .in_readme(),
    row("encrypt, serialize 16 KiB", blobs("encrypt_ring_16384"))
        .go("encrypt_16384")
        .floor(blobs("floor_encrypt_ring_16384"))
        .must(&[TimesFloor(1.15), ONE_ALLOCATION])
        .in_readme(),
    row("encrypt, serialize 1 MiB", blobs("encrypt_ring_1048576"))
        .go("encrypt_1048576")
        .floor(blobs("floor_encrypt_ring_1048576"))
        .must(&[TimesFloor(1.15), ONE_ALLOCATION])
        .in_readme(),
    row("parse, decrypt 32 B", blobs("decrypt_ring_32"))
        .go("decrypt_32")
        .floor(blobs("raw_decrypt_ring_32"))
        .must(&[ONE_ALLOCATION])
        .in_readme(),
    row("parse, decrypt 1 KiB", blobs("decrypt_ring_1024"))
        .go("decrypt_1024")
        .floor(blobs("raw_decrypt_ring_1024"))
        .must(&[TimesFloor(1.3), ONE_ALLOCATION])
        .in_readme(),
    row("parse, decrypt 16 KiB", blobs("decrypt_ring_16384"))
        .go("decrypt_16384")
        .floor(blobs("raw_decrypt_ring_16384"))
        .must(&[TimesFloor(1.3), ONE_ALLOCATION])
        .in_readme(),
    row("parse, decrypt 1 MiB", blobs("decrypt_ring_1048576"))
        .go("decrypt_1048576")
        .floor(blobs("raw_decrypt_ring_1048576"))
        .must(&[TimesFloor(1.3), ONE_ALLOCATION])
        .in_readme(),
    row("… in place 32 B", blobs("decrypt_in_place_ring_32"))
        .go("decrypt_32")
        .floor(blobs("raw_decrypt_ring_32"))
        .must(&[NO_ALLOCATION]),
    row("… in place 1 KiB", blobs("decrypt_in_place_ring_1024"))
        .go("decrypt_1024")
        .floor(blobs("raw_decrypt_ring_1024"))
        .must(&[TimesFloor(1.1), NO_ALLOCATION]),
    row("… in place 16 KiB", blobs("decrypt_in_place_ring_16384"))
        .go("decrypt_16384")
        .floor(blobs("raw_decrypt_ring_16384"))
        .must(&[TimesFloor(1.1), NO_ALLOCATION]),
    row("… in place 1 MiB", blobs("decrypt_in_place_ring_1048576"))
        .go("decrypt_1048576")
        .floor(blobs("raw_decrypt_ring_1048576"))
        .must(&[TimesFloor(1.1), NO_ALLOCATION]),
    row("aes-gcm: encrypt 32 B", blobs("encrypt_aes_gcm_32"))
        .go("encrypt_32")
        .floor(blobs("floor_encrypt_aes_gcm_32"))
        .must(&[ONE_ALLOCATION]),
    row("aes-gcm: encrypt 1 KiB", blobs("encrypt_aes_gcm_1024"))
        .go("encrypt_1024")
        .floor(blobs("floor_encrypt_aes_gcm_1024"))
        .must(&[TimesFloor(1.2), ONE_ALLOCATION]),
    row("aes-gcm: encrypt 16 KiB", blobs("encrypt_aes_gcm_16384"))
        .go("encrypt_16384")
        .floor(blobs("floor_encrypt_aes_gcm_16384"))
        .must(&[TimesFloor(1.2), ONE_ALLOCATION]),
    row("aes-gcm: encrypt 1 MiB", blobs("encrypt_aes_gcm_1048576"))
        .go("encrypt_1048576")
        .floor(blobs("floor_encrypt_aes_gcm_1048576"))
        .must(&[TimesFloor(1.2), ONE_ALLOCATION]),
    row("aes-gcm: decrypt 32 B", blobs("decrypt_aes_gcm_32"))
        .go("decrypt_32")
        .floor(blobs("raw_decrypt_aes_gcm_32"))
        .must(&[ONE_ALLOCATION]),
    row("aes-gcm: decrypt 1 KiB", blobs("decrypt_aes_gcm_1024"))
        .go("decrypt_1024")
        .floor(blobs("raw_decrypt_aes_gcm_1024"))
        .must(&[TimesFloor(1.2), ONE_ALLOCATION]),
    row("aes-gcm: decrypt 16 KiB", blobs("decrypt_aes_gcm_16384"))
        .go("decrypt_16384")
        .floor(blobs("raw_decrypt_aes_gcm_16384"))
        .must(&[TimesFloor(1.2), ONE_ALLOCATION]),
    row("aes-gcm: decrypt 1 MiB", blobs("decrypt_aes_gcm_1048576"))
        .go("decrypt_1048576")
        .floor(blobs("raw_decrypt_aes_gcm_1048576"))
        .must(&[TimesFloor(1.2), ONE_ALLOCATION]),
    // How times grow with versions: beside the newest, and beside fewer.
    row(
        "decrypt 1 KiB with the oldest of 3,000 versions, beside the newest",
        blobs("decrypt_oldest_of_3000"),
    )
    .floor(blobs("decrypt_newest_of_3000"))
    .must(&[TimesFloor(1.5)]),
    row(
        "rotate in memory at 2,700 versions, beside 300",
        blobs("rotate_keys_at_2700_versions"),
    )
    .floor(blobs("rotate_keys_at_300_versions")),
    row("wrapper, cold", loading("wrapper_cold_postgres"))
        .go("wrapper_cold_postgres")
        .floor(loading("floor_query_postgres"))
        .must(&[TimesGo(3.0), AtMost("round_trips", 2.0)])
        .in_readme(),
    row("… SQLite", loading("wrapper_cold_sqlite"))
        .go("wrapper_cold_sqlite")
        .floor(loading("floor_query_sqlite"))
        .must(&[TimesFloor(1.5), AtMost("round_trips", 2.0)])
        .in_readme(),
    row(
        "wrapper, after another scope rotated",
        loading("wrapper_after_other_rotation_postgres"),
    )
    .go("wrapper_after_other_rotation_postgres")
    .floor(loading("floor_query_postgres"))
    .must(AFTER_OTHER_ROTATION)
    .in_readme(),
    row("… SQLite", loading("wrapper_after_other_rotation_sqlite"))
        .go("wrapper_after_other_rotation_sqlite")
        .floor(loading("floor_query_sqlite"))
        .must(AFTER_OTHER_ROTATION),
    row("list keys", loading("list_keys_postgres"))
        .go("list_keys_postgres")
        .floor(loading("floor_query_postgres"))
        .must(&[TimesGo(3.0)])
        .in_readme(),
    row("… SQLite", loading("list_keys_sqlite"))
        .go("list_keys_sqlite")
        .floor(loading("floor_query_sqlite"))
        .must(&[TimesGo(3.0)]),
    row(
        "reconcile, nothing missing, per scope",
        loading("reconcile_nothing_missing_postgres"),
    )
    .go("reconcile_nothing_missing_postgres")
    .must(&[TimesGo(100.0), AtMost("queries", 1.0)])
    .in_readme(),
    row("… SQLite", loading("reconcile_nothing_missing_sqlite"))
        .go("reconcile_nothing_missing_sqlite")
        .must(&[TimesGo(100.0), AtMost("queries", 1.0)]),
    row("create keys, one by one", changing("create_keys_postgres"))
        .go("create_keys_postgres")
        .floor(changing("floor_commit_postgres"))
        .must(&[TimesGo(2.0), TimesFloor(2.5)])
        .in_readme(),
    row("… SQLite", changing("create_keys_sqlite"))
        .go("create_keys_sqlite")
        .floor(changing("floor_commit_sqlite"))
        .must(&[TimesGo(2.0)]),
    row(
        "create keys, batch of 100, per scope",
        changing("create_keys_batch_of_100_postgres"),
    )
    .go("create_keys_postgres")
    .must(&[TimesGo(10.0)])
    .in_readme(),
    row("… SQLite", changing("create_keys_batch_of_100_sqlite"))
        .go("create_keys_sqlite")
        .must(&[TimesGo(10.0)]),
    row(
        "rotate with rewrap, one by one",
        changing("rotate_keys_rewrap_postgres"),
    )
    .go("rotate_keys_rewrap_postgres")
    .floor(changing("floor_commit_postgres"))
    .must(&[TimesGo(2.0), TimesFloor(4.0)])
    .in_readme(),
    row("… SQLite", changing("rotate_keys_rewrap_sqlite"))
        .go("rotate_keys_rewrap_sqlite")
        .floor(changing("floor_commit_sqlite"))
        .must(&[TimesGo(2.0)]),
    row("rotate_all, per scope", changing("rotate_all_postgres"))
        .go("rotate_keys_rewrap_postgres")
        .must(&[TimesGo(10.0)])
        .in_readme(),
    row("… SQLite", changing("rotate_all_sqlite"))
        .go("rotate_keys_rewrap_sqlite")
        .must(&[TimesGo(10.0)]),
    row(
        "rewrap_all to a new root, per scope",
        changing("rewrap_all_postgres"),
    )
    .go("rewrap_keys_postgres")
    .must(&[TimesGo(10.0)])
    .in_readme(),
    row("… SQLite", changing("rewrap_all_sqlite"))
        .go("rewrap_keys_sqlite")
        .must(&[TimesGo(10.0)]),
    row(
        "create keys in 32 transactions at once, each open 20 ms, per scope",
        changing("create_in_32_long_transactions_postgres"),
    )
    .go("create_in_32_long_transactions_postgres")
    .must(&[AtMost("waiting", 0.0)])
    .in_readme(),
    row(
        "start, 1,000 scopes, root 50 ms away, 64 calls at once: warm_up, per scope",
        cloud("cloud_warm_up_postgres_50ms_x64"),
    )
    .floor(cloud("floor_cloud_warm_up_postgres_50ms_x64"))
    .must(START_FAR_AWAY),
    row(
        "… as requests come",
        cloud("cloud_cold_wrappers_postgres_50ms_x64"),
    )
    .floor(cloud("floor_cloud_cold_wrappers_postgres_50ms_x64"))
    .must(START_FAR_AWAY),
    row(
        "… 2 ms away, 8 calls at once: warm_up",
        cloud("cloud_warm_up_postgres_2ms_x8"),
    )
    .floor(cloud("floor_cloud_warm_up_postgres_2ms_x8"))
    .must(START_FAR_AWAY),
    row(
        "… 2 ms away, as requests come",
        cloud("cloud_cold_wrappers_postgres_2ms_x8"),
    )
    .floor(cloud("floor_cloud_cold_wrappers_postgres_2ms_x8"))
    .must(START_FAR_AWAY),
    row(
        "rotate_all with rewrap, root 50 ms away, 64 calls at once, per scope",
        cloud("cloud_rotate_all_rewrap_postgres_50ms_x64"),
    )
    .floor(cloud("floor_cloud_rotate_all_rewrap_postgres_50ms_x64"))
    .must(ROTATE_FAR_AWAY),
    row(
        "… 2 ms away, 8 calls at once",
        cloud("cloud_rotate_all_rewrap_postgres_2ms_x8"),
    )
    .floor(cloud("floor_cloud_rotate_all_rewrap_postgres_2ms_x8"))
    .must(ROTATE_FAR_AWAY),
];

/// Of 1,000 scopes with one version of each key.
const START_FAR_AWAY: &[Target] = &[
    TimesFloor(1.2),
    AtMost("root_encrypts", 0.0),
    AtMost("root_decrypts", 1000.0),
];
const ROTATE_FAR_AWAY: &[Target] = &[
    TimesFloor(1.2),
    AtMost("root_encrypts", 2000.0),
    AtMost("root_decrypts", 1000.0),
];

const MACHINE: Machine = Machine {
    one_thread: cached("machine_1_thread"),
    two_threads: cached("machine_2_threads"),
};

const NO_ALLOCATION: Target = AtMost("allocations", 0.0);
const ONE_ALLOCATION: Target = AtMost("allocations", 1.0);
const AFTER_OTHER_ROTATION: &[Target] = &[
    AtMost("root_calls", 0.0),
    AtMost("collection_queries", 1.0),
    AtMost("row_queries_per_scope", 1.0),
];

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// What it is about; `…` continues the row above. On Postgres where it says nothing else.
    pub(crate) about: &'static str,
    pub(crate) ours: Case,
    /// Go's case, which does the same work.
    pub(crate) go: Option<&'static str>,
    /// What the primitive, one query or one commit takes alone.
    pub(crate) floor: Option<Case>,
    pub(crate) targets: &'static [Target],
    /// Whether the README shows it.
    pub(crate) is_in_readme: bool,
}

/// A case of our program, and the group that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) group: Group,
    pub(crate) name: &'static str,
}

/// What both programs measure in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Cached,
    Blobs,
    Loading,
    Changing,
    /// Ours only: what a root of trust far away adds. The floor is latency × calls ÷ concurrency.
    Cloud,
}

/// What a row has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// So many times as fast as Go, at least.
    TimesGo(f64),
    /// So many times the floor, at most.
    TimesFloor(f64),
    /// What several callers reach together.
    Concurrent {
        /// The same work by one caller.
        alone: Case,
        /// So many times its throughput, at least; less where the machine itself gives less.
        least: f64,
        machine: Machine,
    },
    /// So many of what was counted, at most.
    AtMost(&'static str, f64),
}

/// Arithmetic by two threads that share nothing, and by one: what a second processor is worth at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Machine {
    pub(crate) one_thread: Case,
    pub(crate) two_threads: Case,
}

impl Machine {
    /// How much of what the machine reaches work that shares a cache has to reach.
    pub(crate) const PART: f64 = 0.85;

    /// What is asked of callers that are to reach `least`, where two threads reach `reached` times one.
    pub(crate) fn asked(least: f64, reached: f64) -> f64 {
        least.min(Self::PART * reached)
    }
}

impl Group {
    pub(crate) const ALL: [Self; 5] = [
        Self::Cached,
        Self::Blobs,
        Self::Loading,
        Self::Changing,
        Self::Cloud,
    ];

    /// Which of a round's times counts: the fastest, since others on the machine only ever make one slower. Where
    /// the clock stands still while others run, the one in the middle: in Go's fastest its collector worked least.
    pub(crate) fn time(self) -> &'static str {
        match self {
            Self::Blobs => "median_ns",
            Self::Cached | Self::Loading | Self::Changing | Self::Cloud => "ns",
        }
    }

    /// How both programs call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Blobs => "blobs",
            Self::Loading => "loading",
            Self::Changing => "changing",
            Self::Cloud => "cloud",
        }
    }
}

impl Row {
    /// Our cases that it takes.
    pub(crate) fn cases(&self) -> impl Iterator<Item = Case> {
        let others = self.targets.iter().flat_map(|target| match target {
            Concurrent { alone, machine, .. } => {
                vec![*alone, machine.one_thread, machine.two_threads]
            }
            _ => Vec::new(),
        });
        [self.ours].into_iter().chain(self.floor).chain(others)
    }

    /// Whether one of these is part of its name or of that of its case. All are chosen when there are none.
    pub(crate) fn is_chosen(&self, filters: &[String]) -> bool {
        let is_in =
            |filter: &String| self.about.contains(filter) || self.ours.name.contains(filter);
        filters.is_empty() || filters.iter().any(is_in)
    }

    const fn go(mut self, case: &'static str) -> Self {
        self.go = Some(case);
        self
    }

    const fn floor(mut self, case: Case) -> Self {
        self.floor = Some(case);
        self
    }

    const fn must(mut self, targets: &'static [Target]) -> Self {
        self.targets = targets;
        self
    }

    const fn in_readme(mut self) -> Self {
        self.is_in_readme = true;
        self
    }
}

const fn row(about: &'static str, ours: Case) -> Row {
    Row {
        about,
        ours,
        go: None,
        floor: None,
        targets: &[],
        is_in_readme: false,
    }
}

const fn case(group: Group, name: &'static str) -> Case {
    Case { group, name }
}

const fn cached(name: &'static str) -> Case {
    case(Group::Cached, name)
}

const fn blobs(name: &'static str) -> Case {
    case(Group::Blobs, name)
}

const fn loading(name: &'static str) -> Case {
    case(Group::Loading, name)
}

const fn changing(name: &'static str) -> Case {
    case(Group::Changing, name)
}

const fn cloud(name: &'static str) -> Case {
    case(Group::Cloud, name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALL, Target};

    #[test]
    fn no_case_has_two_rows() {
        let cases: BTreeSet<_> = ALL.iter().map(|row| row.ours.name).collect();
        assert_eq!(cases.len(), ALL.len());
    }

    #[test]
    fn whatever_is_held_against_go_or_the_floor_has_one() {
        for row in ALL {
            for target in row.targets {
                match target {
                    Target::TimesGo(_) => assert!(row.go.is_some(), "{}", row.about),
                    Target::TimesFloor(_) => assert!(row.floor.is_some(), "{}", row.about),
                    Target::Concurrent { .. } | Target::AtMost(..) => {}
                }
            }
        }
    }

    #[test]
    fn a_row_of_several_callers_measures_the_machine_too() {
        let row = ALL.iter().find(|row| row.about.contains("8 callers"));
        let cases: Vec<_> = row.unwrap().cases().map(|case| case.name).collect();
        assert!(cases.contains(&"machine_1_thread"), "{cases:?}");
        assert!(cases.contains(&"machine_2_threads"), "{cases:?}");
    }

    #[test]
    fn a_filter_chooses_by_the_words_of_a_row_and_by_its_case() {
        let chosen = |filter: &str| {
            let filters = [filter.to_owned()];
            ALL.iter().filter(|row| row.is_chosen(&filters)).count()
        };
        assert_eq!(chosen("8 callers"), 1);
        assert_eq!(chosen("wrapper_cold_sqlite"), 1);
        assert_eq!(chosen("no such row"), 0);
        assert!(ALL.iter().all(|row| row.is_chosen(&[])));
    }
}
