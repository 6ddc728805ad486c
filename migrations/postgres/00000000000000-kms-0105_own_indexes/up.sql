-- Ours. The first serves the foreign key: without it, deleting a root key
-- version reads the whole table.
--
-- The others find the same wrapped key in another row, by equality. Hash,
-- because a blob can be longer than a btree entry may be.

create index kms_data_key_version_root_key_version_id_ix
  on kms_data_key_version (root_key_version_id);

create index kms_root_key_version_key_ix on kms_root_key_version using hash (key);
create index kms_data_key_version_key_ix on kms_data_key_version using hash (key);
