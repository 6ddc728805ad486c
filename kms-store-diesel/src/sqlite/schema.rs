// @generated automatically by Diesel CLI.

diesel::table! {
    kms_campaign (id) {
        id -> Text,
        kind -> Text,
        parameters -> Text,
        cursor -> Nullable<Text>,
        done_count -> BigInt,
        create_time -> Timestamp,
        update_time -> Timestamp,
        finish_time -> Nullable<Timestamp>,
        total_count -> BigInt,
        unchanged_count -> BigInt,
        holder -> Nullable<Text>,
        lease_end -> Nullable<Timestamp>,
    }
}

diesel::table! {
    kms_campaign_failure (campaign_id, scope_id) {
        campaign_id -> Text,
        scope_id -> Text,
        kind -> Text,
        message -> Text,
        create_time -> Timestamp,
    }
}

diesel::table! {
    kms_collection_history (version) {
        version -> BigInt,
        update_time -> Timestamp,
    }
}

diesel::table! {
    kms_collection_version (rowid) {
        rowid -> Integer,
        version -> Integer,
        create_time -> Timestamp,
        update_time -> Timestamp,
    }
}

diesel::table! {
    kms_create_time_correction (table_name) {
        table_name -> Text,
    }
}

diesel::table! {
    kms_data_key (private_id) {
        private_id -> Text,
        root_key_id -> Text,
        purpose -> Text,
        create_time -> Timestamp,
    }
}

diesel::table! {
    kms_data_key_version (private_id) {
        private_id -> Text,
        data_key_id -> Text,
        root_key_version_id -> Text,
        version -> Nullable<Integer>,
        key -> Binary,
        create_time -> Timestamp,
    }
}

diesel::table! {
    kms_extension_version (rowid) {
        rowid -> Integer,
        version -> Text,
        create_time -> Timestamp,
        update_time -> Timestamp,
    }
}

diesel::table! {
    kms_restoring (reason) {
        reason -> Text,
    }
}

diesel::table! {
    kms_root_check (key_id) {
        key_id -> Text,
        check_blob -> Binary,
        create_time -> Timestamp,
        update_time -> Timestamp,
    }
}

diesel::table! {
    kms_root_key (private_id) {
        private_id -> Text,
        scope_id -> Text,
        create_time -> Timestamp,
    }
}

diesel::table! {
    kms_root_key_version (private_id) {
        private_id -> Text,
        root_key_id -> Text,
        version -> Nullable<Integer>,
        key -> Binary,
        create_time -> Timestamp,
    }
}

diesel::table! {
    kms_schema_version (rowid) {
        rowid -> Integer,
        version -> Text,
        create_time -> Timestamp,
        update_time -> Timestamp,
    }
}

diesel::table! {
    kms_scope_change (collection_version, scope_id) {
        collection_version -> BigInt,
        scope_id -> Text,
    }
}

diesel::table! {
    kms_scope_renaming (root_key_id) {
        root_key_id -> Text,
        scope_id -> Text,
    }
}

diesel::table! {
    kms_scope_root (root_key_id) {
        root_key_id -> Text,
        name -> Text,
    }
}

diesel::joinable!(kms_campaign_failure -> kms_campaign (campaign_id));
diesel::joinable!(kms_data_key -> kms_root_key (root_key_id));
diesel::joinable!(kms_data_key_version -> kms_data_key (data_key_id));
diesel::joinable!(kms_data_key_version -> kms_root_key_version (root_key_version_id));
diesel::joinable!(kms_root_key_version -> kms_root_key (root_key_id));
diesel::joinable!(kms_scope_root -> kms_root_key (root_key_id));

diesel::allow_tables_to_appear_in_same_query!(
    kms_campaign,
    kms_campaign_failure,
    kms_collection_history,
    kms_collection_version,
    kms_create_time_correction,
    kms_data_key,
    kms_data_key_version,
    kms_extension_version,
    kms_restoring,
    kms_root_check,
    kms_root_key,
    kms_root_key_version,
    kms_schema_version,
    kms_scope_change,
    kms_scope_renaming,
    kms_scope_root,
);
