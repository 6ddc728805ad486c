// @generated automatically by Diesel CLI.

diesel::table! {
    kms_campaign (id) {
        id -> Text,
        kind -> Text,
        parameters -> Text,
        cursor -> Nullable<Text>,
        done_count -> Int8,
        create_time -> Timestamptz,
        update_time -> Timestamptz,
        finish_time -> Nullable<Timestamptz>,
        total_count -> Int8,
        unchanged_count -> Int8,
        holder -> Nullable<Text>,
        lease_end -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    kms_campaign_failure (campaign_id, scope_id) {
        campaign_id -> Text,
        scope_id -> Text,
        kind -> Text,
        message -> Text,
        create_time -> Timestamptz,
    }
}

diesel::table! {
    kms_collection_history (version) {
        version -> Int8,
        update_time -> Timestamp,
    }
}

diesel::table! {
    kms_collection_version (version) {
        version -> Int8,
        create_time -> Timestamp,
        update_time -> Timestamp,
    }
}

diesel::table! {
    kms_data_key (private_id) {
        private_id -> Text,
        root_key_id -> Text,
        purpose -> Text,
        create_time -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    kms_data_key_version (private_id) {
        private_id -> Text,
        data_key_id -> Text,
        root_key_version_id -> Text,
        version -> Int8,
        key -> Bytea,
        create_time -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    kms_extension_version (version) {
        version -> Text,
        create_time -> Timestamptz,
        update_time -> Timestamptz,
    }
}

diesel::table! {
    kms_root_check (key_id) {
        key_id -> Text,
        check_blob -> Bytea,
        create_time -> Timestamptz,
        update_time -> Timestamptz,
    }
}

diesel::table! {
    kms_root_key (private_id) {
        private_id -> Text,
        scope_id -> Text,
        create_time -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    kms_root_key_version (private_id) {
        private_id -> Text,
        root_key_id -> Text,
        version -> Int8,
        key -> Bytea,
        create_time -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    kms_schema_version (version) {
        version -> Text,
        create_time -> Nullable<Timestamptz>,
        update_time -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    kms_scope_change (collection_version, scope_id) {
        collection_version -> Int8,
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
    kms_data_key,
    kms_data_key_version,
    kms_extension_version,
    kms_root_check,
    kms_root_key,
    kms_root_key_version,
    kms_schema_version,
    kms_scope_change,
    kms_scope_root,
);
