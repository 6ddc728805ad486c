-- Ours. A primary key on each of the tables with one row: logical replication
-- refuses to update a table without one, and so does diesel to describe it.

alter table kms_schema_version add constraint kms_schema_version_pkey primary key (version);
alter table kms_collection_version add constraint kms_collection_version_pkey primary key (version);
alter table kms_extension_version add constraint kms_extension_version_pkey primary key (version);

-- The collection version's times have no time zone: what stands in them is
-- UTC, whatever the session's time zone.
alter table kms_collection_version
  alter column create_time set default (now() at time zone 'utc'),
  alter column update_time set default (now() at time zone 'utc');

create trigger kms_default_create_time_column before insert on kms_collection_version
  for each row execute function kms_default_create_time();
