-- Ours. Serves the foreign key: without it, deleting a root key
-- version reads the whole table.

create index kms_data_key_version_root_key_version_id_ix
  on kms_data_key_version (root_key_version_id);
