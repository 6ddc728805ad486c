alter table kms_data_key_version
  drop constraint kms_root_key_version_fkey,
  add constraint kms_root_key_version_fkey
    foreign key (root_key_version_id) references kms_root_key_version (private_id)
    on delete cascade on update cascade;
