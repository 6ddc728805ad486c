//! The list of all properties.

/// Makes a `#[test]` of every property of [`repository`](crate::repository), each with a fixture of its
/// own from this async function (or closure), in a module per group. It gives a fixture, or an `Option`
/// of one: `None` skips the test, and the function is the one to say so.
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
            changes {
                a_rotation_adds_one_version_to_every_key
                a_rotation_with_rewrap_leaves_nothing_under_an_old_root_key_version
                a_rewrap_replaces_wrapped_keys_and_nothing_else
                a_rewrap_of_some_rows_leaves_the_others
                reconciling_adds_the_data_keys_that_lack
                a_change_of_one_scope_leaves_the_others
            }
            conflicts {
                every_difference_from_the_expected_rows_is_a_conflict
                a_change_prepared_before_another_one_is_a_conflict
                a_change_of_a_scope_that_is_gone_is_a_conflict
                of_two_rotations_from_the_same_rows_one_is_a_conflict
                times_are_not_compared
                a_number_that_the_database_does_not_assign_is_a_conflict
                a_second_data_key_of_one_purpose_is_a_conflict
            }
            batches {
                an_empty_batch_changes_nothing
                a_batch_changes_every_scope
                a_batch_may_hold_every_operation
                a_refused_change_set_does_not_stop_the_others
                a_change_set_is_all_or_nothing
            }
            checking {
                the_first_check_blob_of_a_key_id_stays
                a_check_blob_is_replaced_where_it_is_the_expected_one
                check_blobs_of_other_key_ids_stay_apart
            }
            collection {
                every_change_but_creation_moves_the_collection_version
                the_update_time_follows_every_change
                a_refused_change_leaves_the_collection_version_alone
                a_root_key_deleted_by_hand_moves_the_collection_version
                a_scope_deleted_by_the_application_moves_the_collection_version
                scrambling_moves_the_collection_version_and_nothing_else
            }
            telling {
                a_change_names_its_scope_and_no_other
                every_operation_names_its_scope
                the_way_across_changes_is_told_in_order
                each_scope_of_a_batch_is_named
                creation_is_no_step
                data_keys_added_to_a_scope_without_any_name_it
                a_refused_change_leaves_no_step
                a_root_key_deleted_by_hand_is_named
                a_scope_deleted_by_the_application_is_named
                from_a_version_to_itself_there_is_no_step
                nothing_is_told_about_before_a_scrambling
                a_version_that_never_was_is_untold
                another_repository_is_told_the_same
            }
            revoking {
                a_root_key_version_that_wraps_nothing_is_revoked
                a_root_key_version_that_still_wraps_is_in_use
                numbers_go_on_after_a_revocation
                an_unreferenced_data_key_version_is_revoked
                a_referenced_data_key_version_is_in_use
                any_of_several_tables_keeps_a_data_key_version
                without_a_referencing_table_nothing_proves_a_version_unused
                a_foreign_key_that_gives_way_proves_nothing
                the_dangerous_form_deletes_without_proof
                a_refused_revocation_applies_unchanged_once_nothing_stands_against_it
            }
            deleting {
                an_unreferenced_scope_is_deleted
                a_referenced_scope_is_in_use
                a_scope_not_proven_unused_is_deleted_by_the_dangerous_form_only
            }
            paging {
                pages_of_any_size_are_complete_and_without_duplicates
                paging_goes_on_after_a_scope_that_is_gone
                a_list_of_scopes_limits_the_pages
                an_age_limits_the_pages
                an_age_beyond_all_times_matches_nothing
                the_age_is_that_of_the_newest_root_key_version
            }
            finding {
                missing_names_the_purposes_that_a_scope_lacks
                missing_reports_a_scope_without_root_key
                missing_of_no_scope_is_nothing
                a_wrapped_key_in_another_scope_is_found_as_a_copy
                the_scope_of_a_key_version_is_found
                referencers_are_the_tables_of_the_application
            }
            resolving {
                a_change_is_told_from_one_that_never_was
                a_creation_is_told_by_its_own_root_key
                a_change_is_still_told_after_later_ones
                a_change_whose_place_is_taken_is_not_applied
                a_rewrap_whose_old_wrapped_keys_are_still_there_is_not_applied
                a_change_without_trace_is_unknown
                a_deletion_is_told_by_its_target
                a_batch_is_resolved_one_by_one
            }
            campaigns {
                starting_a_campaign_twice_finds_it_again
                starting_a_campaign_at_once_makes_one
                the_cursor_moves_with_the_batch
                a_step_from_elsewhere_is_a_conflict_and_writes_nothing
                a_step_of_an_unknown_campaign_is_refused
                of_two_steps_from_one_place_one_is_a_conflict
                a_refused_change_is_recorded_and_does_not_stop_the_step
                a_scope_has_one_failure_the_latest
                a_failure_goes_when_its_scope_is_done_or_not_wanted
                trying_again_what_has_not_failed_is_a_conflict
                a_campaign_is_finished_when_no_scope_has_failed
                an_empty_campaign_finishes_from_its_start
                campaigns_are_apart
                the_failure_of_a_deleted_scope_stays_until_it_is_settled
            }
            holding {
                whoever_starts_a_campaign_holds_it
                of_several_that_take_a_campaign_one_holds_it
                a_released_campaign_is_free
                a_lease_that_ran_out_frees_the_campaign
                a_step_without_the_campaign_is_a_conflict_and_writes_nothing
                a_campaign_is_found_by_its_id
                campaigns_are_listed_with_how_far_they_are
                scopes_are_counted_as_they_are_paged_through
            }
            rooting {
                a_scope_has_no_named_root_until_it_gets_one
                an_assignment_changes_the_root_and_the_wrapped_keys_together
                a_root_is_replaced_and_given_up
                every_other_change_leaves_the_root
                a_scope_is_created_under_a_named_root
                a_change_prepared_under_another_root_is_a_conflict
                of_an_assignment_and_a_rotation_one_is_a_conflict
                a_batch_may_assign_roots_and_a_refused_one_leaves_nothing
                an_assignment_is_a_change_that_caches_notice
                a_scope_that_is_deleted_and_created_anew_has_no_named_root
                names_of_roots_round_trip
                the_fate_of_an_assignment_is_told
            }
            moving {
                keys_of_another_database_keep_their_ids_and_order
                keys_of_another_database_are_refused_where_the_scope_has_keys
                keys_that_are_here_under_another_scope_are_a_conflict
                a_renamed_scope_has_its_keys_under_the_new_id_alone
                a_scope_is_not_renamed_to_one_that_has_keys
                a_batch_may_rename_scopes
                a_renaming_prepared_before_another_change_is_a_conflict
                references_stay_when_a_scope_is_renamed
                the_root_stays_when_a_scope_is_renamed
                a_renaming_names_both_ids
                the_fate_of_a_renaming_is_told
            }
            tampering {
                rows_edited_by_hand_are_loaded_as_they_are
                rows_edited_by_hand_leave_the_collection_version_alone
                a_data_key_version_moved_under_another_scope_is_seen
            }
            concurrency {
                many_tasks_at_once_lose_no_change
                batches_in_different_orders_do_not_deadlock
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
                conflicts {
                    of_two_rotations_from_the_same_rows_one_is_a_conflict
                }
                campaigns {
                    of_two_steps_from_one_place_one_is_a_conflict
                }
                concurrency {
                    many_tasks_at_once_lose_no_change
                    batches_in_different_orders_do_not_deadlock
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
                            let offer = ($fixture)().await;
                            if let Some(fixture) = $crate::repository::Offer::fixture(offer) {
                                $crate::repository::$group::$property(&fixture).await;
                            }
                        });
                    }
                )*
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    /// Each group's source, to be held against the list.
    const GROUPS: [(&str, &str); 19] = [
        ("schema", include_str!("schema.rs")),
        ("loading", include_str!("loading.rs")),
        ("creating", include_str!("creating.rs")),
        ("changes", include_str!("changes.rs")),
        ("conflicts", include_str!("conflicts.rs")),
        ("batches", include_str!("batches.rs")),
        ("collection", include_str!("collection.rs")),
        ("telling", include_str!("telling.rs")),
        ("revoking", include_str!("revoking.rs")),
        ("deleting", include_str!("deleting.rs")),
        ("paging", include_str!("paging.rs")),
        ("finding", include_str!("finding.rs")),
        ("resolving", include_str!("resolving.rs")),
        ("campaigns", include_str!("campaigns.rs")),
        ("holding", include_str!("holding.rs")),
        ("rooting", include_str!("rooting.rs")),
        ("moving", include_str!("moving.rs")),
        ("tampering", include_str!("tampering.rs")),
        ("concurrency", include_str!("concurrency.rs")),
    ];

    #[test]
    fn every_public_property_is_in_the_list() {
        let list = include_str!("suite.rs");
        let mut count = 0;
        for (group, source) in GROUPS {
            let (_, rest) = list
                .split_once(&format!("            {group} {{"))
                .unwrap_or_else(|| panic!("{group} is in the list"));
            let (listed, _) = rest.split_once('}').unwrap();
            let listed: Vec<_> = listed.split_whitespace().collect();
            let properties: Vec<_> = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn "))
                .filter_map(|line| line.split_once('(').map(|(name, _)| name))
                .collect();
            assert_eq!(listed, properties, "{group}");
            count += properties.len();
        }
        assert!(count > 60, "{count} properties");
    }
}
