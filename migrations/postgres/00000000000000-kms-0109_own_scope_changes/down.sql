update kms_extension_version set version = 'v1';

drop trigger kms_leap_collection_version_on_truncate on kms_data_key_version;
drop trigger kms_leap_collection_version_on_truncate on kms_data_key;
drop trigger kms_leap_collection_version_on_truncate on kms_root_key_version;
drop trigger kms_leap_collection_version_on_truncate on kms_root_key;

drop trigger kms_mark_on_delete on kms_data_key_version;
drop trigger kms_mark_on_update on kms_data_key_version;
drop trigger kms_mark_on_insert on kms_data_key_version;

drop trigger kms_mark_on_delete on kms_data_key;
drop trigger kms_mark_on_insert on kms_data_key;

drop trigger kms_mark_on_delete on kms_root_key_version;
drop trigger kms_mark_on_update on kms_root_key_version;
drop trigger kms_mark_on_insert on kms_root_key_version;

drop trigger kms_mark_on_delete on kms_root_key;

drop trigger kms_forget_changes on kms_collection_version;
drop trigger kms_note_collection_version on kms_collection_version;

drop function kms_note_collection_version();
drop function kms_leap_collection_version();
drop function kms_forget_changes();
drop function kms_mark_kms_data_key_version();
drop function kms_mark_kms_data_key();
drop function kms_mark_kms_root_key_version();
drop function kms_mark_kms_root_key();

drop table kms_scope_change;
drop table kms_collection_history;
