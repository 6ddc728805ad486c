-- Shared with Go kms. The counter by which caches tell that keys changed.

create table kms_collection_version (
  version kms_version,
  create_time timestamp not null default current_timestamp,
  update_time timestamp not null default current_timestamp
);
comment on table kms_collection_version is
  'one row: goes up with every change of keys; compared for equality only, together with update_time';

create unique index kms_collection_version_one_row on kms_collection_version ((version is not null));

create trigger kms_immutable_columns before update on kms_collection_version
  for each row execute function kms_immutable_columns('create_time');
create trigger kms_update_time_column before update on kms_collection_version
  for each row execute function kms_update_time_column();

insert into kms_collection_version (version) values (1);

update kms_schema_version set version = 'v0.0.2';
