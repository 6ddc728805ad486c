//! The list of all properties.

/// Makes a `#[test]` of every property of [`repository`](crate::repository), each with a fixture of its
/// own from this async function (or closure), in a module per group.
///
/// Those whose subject is concurrency run a second time on a current-thread runtime, in the module
/// `on_one_thread`.
#[macro_export]
macro_rules! repository_suite {
    ($fixture:expr) => {
        $crate::repository_suite! { @groups run $fixture;
            schema {
                the_expected_schema_version_validates
                another_schema_version_is_refused_and_both_are_named
            }
            loading {
                every_row_is_read_back_as_it_was_written
                times_are_set_and_near_now
                rows_come_in_the_order_that_they_are_compared_in
                a_scope_without_keys_is_absent
                a_scope_that_is_asked_for_twice_comes_once
                asking_for_no_scope_gives_the_collection_version
                a_load_of_many_scopes_gives_each_its_own_rows
                names_beyond_ascii_round_trip_and_stay_apart
                names_of_255_bytes_round_trip
                wrapped_keys_of_any_bytes_round_trip
                a_snapshot_is_never_torn
                another_repository_sees_the_same
            }
            creating {
                a_scope_without_purposes_gets_a_root_key_alone
                creating_leaves_the_collection_version_alone
                creating_a_scope_twice_is_refused_and_changes_nothing
                of_two_creators_at_once_exactly_one_wins
                an_id_that_is_taken_is_refused_and_leaves_nothing_behind
                a_deleted_scope_may_be_created_anew
            }
        }
        mod on_one_thread {
            use super::*;

            $crate::repository_suite! { @groups run_on_one_thread $fixture;
                loading {
                    a_snapshot_is_never_torn
                }
                creating {
                    of_two_creators_at_once_exactly_one_wins
                }
            }
        }
    };
    (@groups $run:ident $fixture:expr; $($group:ident { $($property:ident)* })*) => {
        $(
            mod $group {
                use super::*;

                $(
                    #[test]
                    fn $property() {
                        $crate::repository::$run(async {
                            let fixture = ($fixture)().await;
                            $crate::repository::$group::$property(&fixture).await;
                        });
                    }
                )*
            }
        )*
    };
}
