//! Whether keys may still be used: one decision for every way of asking for them.

use std::time::Duration;

/// Time since the cache was made.
pub(crate) type Moment = Duration;

/// A moment at which a query was sent, or a receipt handed over: where in the order, and when.
///
/// What is newer is told by this order and by nothing else: the database's counter goes backwards after a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) order: u64,
    pub(crate) at: Moment,
}

/// Which queries are recent enough.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Since {
    /// Those sent at this moment or later.
    Moment(Moment),
    /// Those sent after this point in the order.
    Order(u64),
}

impl Since {
    #[inline]
    pub(crate) fn admits(self, sent: Sent) -> bool {
        match self {
            Self::Moment(moment) => sent.at >= moment,
            Self::Order(order) => sent.order > order,
        }
    }
}

/// What a call was promised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    /// How recent the knowledge must be that it works with.
    pub(crate) since: Since,
    /// Whether only a look at the rows counts, and not one at the collection version.
    pub(crate) rows_only: bool,
    /// How old knowledge may be while the database can't be asked. Zero: no older than promised.
    pub(crate) oldest_in_grace: Duration,
}

/// What is known of a cached scope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// When the query for its rows was sent.
    pub(crate) sent: Sent,
    /// When the rows are to be read again, whatever the collection version says.
    pub(crate) recheck: Moment,
    pub(crate) rows: Rows,
}

/// How the rows of a cached scope stand to what is known since they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// They are those of the collection version that was read last.
    Current,
    /// They were changed since, here or elsewhere.
    Overtaken,
    /// It can't be told.
    Untold,
}

/// What is known of the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knowledge {
    /// When the query was sent that read the collection version last.
    pub(crate) asked: Option<Sent>,
    /// Whether a query failed just now since the database can't be asked.
    pub(crate) down: bool,
}

/// What to do for somebody who wants the keys of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Hand out the cached keys.
    Usable,
    /// Ask for the collection version, and decide again.
    Ask,
    /// Read the rows.
    Load,
    /// Hand out the cached keys although they are past their freshness: the database can't be asked, and the
    /// application has chosen a grace period.
    Grace,
    /// The database can't be asked, and what is cached must not be used.
    Refused,
}

/// Decides from what is known; `None` for a scope that is not cached. This is invariant 6.
///
/// Always inlined: on the hot path most of what it looks at is constant.
#[inline(always)]
pub(crate) fn verdict(
    cached: Option<&Facts>,
    knowledge: &Knowledge,
    now: Moment,
    promise: &Promise,
) -> Verdict {
    let recently_asked = knowledge.asked.filter(|asked| promise.since.admits(*asked));
    match cached.filter(|facts| facts.rows != Rows::Overtaken) {
        None if knowledge.down => Verdict::Refused,
        None => Verdict::Load,
        Some(facts) => {
            let due = now >= facts.recheck;
            let confirmed = recently_asked.is_some() && facts.rows == Rows::Current;
            if !due && (promise.since.admits(facts.sent) || (confirmed && !promise.rows_only)) {
                Verdict::Usable
            } else if knowledge.down {
                if facts.age(knowledge, now) <= promise.oldest_in_grace {
                    Verdict::Grace
                } else {
                    Verdict::Refused
                }
            } else if due || promise.rows_only || recently_asked.is_some() {
                Verdict::Load
            } else {
                Verdict::Ask
            }
        }
    }
}

impl Facts {
    /// How long ago the keys were last known to be what the database holds.
    fn age(&self, knowledge: &Knowledge, now: Moment) -> Duration {
        let asked = knowledge
            .asked
            .filter(|_| self.rows == Rows::Current)
            .map_or(Moment::ZERO, |asked| asked.at);
        now.saturating_sub(self.sent.at.max(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1000;

    fn sent(at: u64) -> Sent {
        Sent {
            order: at,
            at: Duration::from_secs(at),
        }
    }

    /// The rule in other words, case by case, to hold the function against.
    fn expected(
        cached: Option<(Rows, Since, bool, bool)>,
        asked_recently: bool,
        down: bool,
        rows_only: bool,
        rows_recent: bool,
        in_grace: bool,
    ) -> Verdict {
        match cached {
            None => {
                if down {
                    Verdict::Refused
                } else {
                    Verdict::Load
                }
            }
            Some((Rows::Overtaken, ..)) => {
                expected(None, asked_recently, down, rows_only, rows_recent, in_grace)
            }
            Some((_, _, false, _)) if rows_recent => Verdict::Usable,
            Some((Rows::Current, _, false, _)) if asked_recently && !rows_only => Verdict::Usable,
            Some(_) if down && in_grace => Verdict::Grace,
            Some(_) if down => Verdict::Refused,
            Some((_, _, true, _)) => Verdict::Load,
            Some(_) if rows_only || asked_recently => Verdict::Load,
            Some(_) => Verdict::Ask,
        }
    }

    #[test]
    fn invariant_06_every_combination_of_what_is_known_has_its_verdict() {
        let mut seen = Vec::new();
        let flags = [false, true];
        let since_of = [
            Since::Moment(Duration::from_secs(NOW - 10)),
            Since::Order(NOW - 11),
        ];
        for since in since_of {
            for rows_only in flags {
                for down in flags {
                    for grace in [Duration::ZERO, Duration::from_secs(60), Duration::MAX] {
                        let promise = Promise {
                            since,
                            rows_only,
                            oldest_in_grace: grace,
                        };
                        for asked in [None, Some(NOW - 500), Some(NOW - 30), Some(NOW - 5)] {
                            let asked_recently = asked.is_some_and(|at| at >= NOW - 10);
                            let knowledge = Knowledge {
                                asked: asked.map(sent),
                                down,
                            };
                            let nothing =
                                verdict(None, &knowledge, Duration::from_secs(NOW), &promise);
                            assert_eq!(
                                nothing,
                                expected(None, asked_recently, down, rows_only, false, false)
                            );
                            seen.push(nothing);
                            for rows in [Rows::Current, Rows::Overtaken, Rows::Untold] {
                                for read in [NOW - 500, NOW - 40, NOW - 5] {
                                    for due in flags {
                                        let facts = Facts {
                                            sent: sent(read),
                                            recheck: Duration::from_secs(if due {
                                                NOW
                                            } else {
                                                NOW + 1
                                            }),
                                            rows,
                                        };
                                        let last = match (rows, asked) {
                                            (Rows::Current, Some(asked)) => read.max(asked),
                                            _ => read,
                                        };
                                        let in_grace = Duration::from_secs(NOW - last) <= grace;
                                        let found = verdict(
                                            Some(&facts),
                                            &knowledge,
                                            Duration::from_secs(NOW),
                                            &promise,
                                        );
                                        assert_eq!(
                                            found,
                                            expected(
                                                Some((rows, since, due, down)),
                                                asked_recently,
                                                down,
                                                rows_only,
                                                read >= NOW - 10,
                                                in_grace,
                                            ),
                                            "{facts:?} {knowledge:?} {promise:?}"
                                        );
                                        seen.push(found);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        for verdict in [
            Verdict::Usable,
            Verdict::Ask,
            Verdict::Load,
            Verdict::Grace,
            Verdict::Refused,
        ] {
            assert!(seen.contains(&verdict), "{verdict:?} never came up");
        }
    }

    #[test]
    fn invariant_06_what_is_known_to_be_changed_is_never_served_whatever_the_grace() {
        let facts = Facts {
            sent: sent(NOW),
            recheck: Moment::MAX,
            rows: Rows::Overtaken,
        };
        for down in [false, true] {
            let knowledge = Knowledge {
                asked: Some(sent(NOW)),
                down,
            };
            let promise = Promise {
                since: Since::Moment(Moment::ZERO),
                rows_only: false,
                oldest_in_grace: Duration::MAX,
            };
            let found = verdict(Some(&facts), &knowledge, Duration::from_secs(NOW), &promise);
            assert!(matches!(found, Verdict::Load | Verdict::Refused));
        }
    }

    #[test]
    fn a_moment_admits_what_was_sent_at_it_and_a_point_in_the_order_only_what_came_after() {
        assert!(Since::Moment(Duration::from_secs(5)).admits(sent(5)));
        assert!(!Since::Moment(Duration::from_secs(5)).admits(sent(4)));
        assert!(Since::Order(5).admits(sent(6)));
        assert!(!Since::Order(5).admits(sent(5)));
    }
}
