-- Shared with Go kms. Root keys, data keys and their versions.
--
-- `version` stays nullable: Go inserts null there, and a trigger fills it in.

create table kms_root_key (
  private_id text not null primary key
    constraint private_id_not_blank
    check (trim(private_id, ' ' || char(9, 10, 11, 12, 13)) <> ''),
  scope_id text not null unique
    constraint scope_id_not_blank
    check (trim(scope_id, ' ' || char(9, 10, 11, 12, 13)) <> ''),
  create_time timestamp not null default current_timestamp
);

create table kms_root_key_version (
  private_id text not null primary key
    constraint private_id_not_blank
    check (trim(private_id, ' ' || char(9, 10, 11, 12, 13)) <> ''),
  root_key_id text not null
    references kms_root_key (private_id)
    on delete cascade on update cascade,
  version int
    constraint version_positive check (version > 0),
  key blob not null
    constraint not_empty_key check (length(key) > 0),
  create_time timestamp not null default current_timestamp,
  unique (root_key_id, version)
);

create table kms_data_key (
  private_id text not null primary key
    constraint private_id_not_blank
    check (trim(private_id, ' ' || char(9, 10, 11, 12, 13)) <> ''),
  root_key_id text not null
    references kms_root_key (private_id)
    on delete cascade on update cascade,
  purpose text not null
    constraint not_start_end_whitespace_purpose
    check (purpose <> '' and trim(purpose, ' ' || char(9, 10, 11, 12, 13)) = purpose),
  create_time timestamp not null default current_timestamp,
  unique (root_key_id, purpose)
);

-- The foreign key to the root key version is a plain `no action` from the
-- start, unlike Go's, which cascades: SQLite has no way to replace it later.
create table kms_data_key_version (
  private_id text not null primary key
    constraint private_id_not_blank
    check (trim(private_id, ' ' || char(9, 10, 11, 12, 13)) <> ''),
  data_key_id text not null
    references kms_data_key (private_id)
    on delete cascade on update cascade,
  root_key_version_id text not null
    references kms_root_key_version (private_id),
  version int
    constraint version_positive check (version > 0),
  key blob not null
    constraint not_empty_key check (length(key) > 0),
  create_time timestamp not null default current_timestamp,
  unique (data_key_id, version)
);
