-- Shared with Go kms. The counter by which caches tell that keys changed.

create table kms_collection_version (
  version int not null
    constraint version_positive check (version > 0),
  create_time timestamp not null default current_timestamp,
  update_time timestamp not null default current_timestamp
);

create unique index kms_collection_version_one_row on kms_collection_version ((version is not null));

insert into kms_collection_version (version) values (1);

update kms_schema_version set version = 'v0.0.2';
