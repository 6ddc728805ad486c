-- Shared with Go kms. Which version of the shared part this database holds.
--
-- Times are declared `timestamp`: Go's driver reads them by the declared type.

create table kms_schema_version (
  version text not null,
  create_time timestamp not null default current_timestamp,
  update_time timestamp not null default current_timestamp
);

create unique index kms_schema_version_one_row on kms_schema_version ((version is not null));

-- As in Go kms, v0.0.2 is reached with the collection version.
insert into kms_schema_version (version) values ('v0.0.1');
