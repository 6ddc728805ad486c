-- Shared with Go kms. The types of the key tables' columns.

create domain kms_private_id as text
  not null
  constraint kms_private_id_check check (length(trim(value)) > 0);
comment on domain kms_private_id is 'id of a key or of a key version: never blank';

create domain kms_scope_id as text
  constraint kms_scope_id_check check (length(trim(value)) > 0);
comment on domain kms_scope_id is 'id of a scope, owned by the application: never blank';

create domain kms_timestamp as timestamp with time zone
  default current_timestamp;
comment on domain kms_timestamp is 'a time that the database sets';

create domain kms_version as bigint
  default 1
  not null
  constraint kms_version_check check (value > 0);
comment on domain kms_version is 'number of a key version, or of the collection: counts from 1';
