-- Ours. In Go kms, deleting a root key version destroys the data key versions
-- under it. Here it fails, and deleting a whole scope still takes everything
-- in one statement: for that the check has to wait for the end of the
-- transaction, when the cascade has reached the data key versions as well.

alter table kms_data_key_version
  drop constraint kms_root_key_version_fkey,
  add constraint kms_root_key_version_fkey
    foreign key (root_key_version_id) references kms_root_key_version (private_id)
    deferrable initially deferred;
