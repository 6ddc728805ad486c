-- A database as Go kms leaves it on Postgres, in words of our own: the names,
-- types, constraints and triggers are Go's, and so is what its functions get
-- wrong. The steps are those of its migrations.

-- step 01
create domain kms_private_id as text not null check (length(trim(value)) > 0);
create domain kms_scope_id as text check (length(trim(value)) > 0);
create domain kms_timestamp as timestamptz default current_timestamp;
create domain kms_version as bigint default 1 not null check (value > 0);

create function kms_immutable_columns() returns trigger language plpgsql as $$
declare
  name text;
  changed boolean;
begin
  foreach name in array tg_argv loop
    execute format('select ($1).%1$I is distinct from ($2).%1$I', name) into changed using new, old;
    if changed then
      raise exception 'immutable column: %.%', tg_table_name, name
        using errcode = '23601', schema = tg_table_schema, table = tg_table_name, column = name;
    end if;
  end loop;
  return new;
end $$;

create function kms_default_create_time() returns trigger language plpgsql as $$
begin
  new.create_time = now();
  return new;
end $$;

create function kms_update_time_column() returns trigger language plpgsql as $$
begin
  if row(new.*) is not distinct from row(old.*) then
    return old;
  end if;
  new.update_time = now();
  return new;
end $$;

-- step 02
create table kms_schema_version (
  version text not null,
  create_time kms_timestamp,
  update_time kms_timestamp
);
create unique index kms_schema_version_one_row on kms_schema_version ((version is not null));
create trigger kms_immutable_columns before update on kms_schema_version
  for each row execute procedure kms_immutable_columns('create_time');
create trigger kms_default_create_time_column before insert on kms_schema_version
  for each row execute procedure kms_default_create_time();
create trigger kms_update_time_column before update on kms_schema_version
  for each row execute procedure kms_update_time_column();
insert into kms_schema_version (version) values ('v0.0.1');

-- step 03
create function kms_version_column() returns trigger language plpgsql as $$
declare
  key_id text;
begin
  execute format('select ($1).%I', tg_argv[0]) into key_id using new;
  execute format('select coalesce(max(version) + 1, 1) from %I where %I = $1', tg_table_name, tg_argv[0])
    into new.version using key_id;
  return new;
end $$;

-- step 04
create table kms_root_key (
  private_id kms_private_id primary key,
  scope_id kms_scope_id not null unique,
  create_time kms_timestamp
);
create trigger kms_immutable_columns before update on kms_root_key
  for each row execute procedure kms_immutable_columns('private_id', 'scope_id', 'create_time');
create trigger kms_default_create_time_column before insert on kms_root_key
  for each row execute procedure kms_default_create_time();

create table kms_root_key_version (
  private_id kms_private_id primary key,
  root_key_id kms_private_id not null
    constraint kms_root_key_fkey references kms_root_key (private_id) on delete cascade on update cascade,
  version kms_version,
  key bytea not null constraint not_empty_key check (length(key) > 0),
  create_time kms_timestamp,
  constraint kms_root_key_version_root_key_id_version_uq unique (root_key_id, version)
);
create trigger kms_immutable_columns before update on kms_root_key_version
  for each row execute procedure kms_immutable_columns('private_id', 'root_key_id', 'version', 'key', 'create_time');
create trigger kms_default_create_time_column before insert on kms_root_key_version
  for each row execute procedure kms_default_create_time();
create trigger kms_version_column before insert on kms_root_key_version
  for each row execute procedure kms_version_column('root_key_id');

create table kms_data_key (
  private_id kms_private_id primary key,
  root_key_id kms_private_id not null
    constraint kms_root_key_fkey references kms_root_key (private_id) on delete cascade on update cascade,
  purpose text not null
    constraint not_start_end_whitespace_purpose check (length(trim(purpose)) = length(purpose)),
  create_time kms_timestamp,
  constraint kms_data_key_root_key_id_purpose_uq unique (root_key_id, purpose)
);
create trigger kms_immutable_columns before update on kms_data_key
  for each row execute procedure kms_immutable_columns('private_id', 'root_key_id', 'purpose', 'create_time');
create trigger kms_default_create_time_column before insert on kms_data_key
  for each row execute procedure kms_default_create_time();

create table kms_data_key_version (
  private_id kms_private_id primary key,
  data_key_id kms_private_id not null
    constraint kms_data_key_fkey references kms_data_key (private_id) on delete cascade on update cascade,
  root_key_version_id kms_private_id not null
    constraint kms_root_key_version_fkey references kms_root_key_version (private_id)
    on delete cascade on update cascade,
  version kms_version,
  key bytea not null constraint not_empty_key check (length(key) > 0),
  create_time kms_timestamp,
  constraint kms_data_key_version_data_key_id_version_uq unique (data_key_id, version)
);
create trigger kms_immutable_columns before update on kms_data_key_version
  for each row execute procedure kms_immutable_columns('private_id', 'data_key_id', 'root_key_version_id', 'version', 'key', 'create_time');
create trigger kms_default_create_time_column before insert on kms_data_key_version
  for each row execute procedure kms_default_create_time();
create trigger kms_version_column before insert on kms_data_key_version
  for each row execute procedure kms_version_column('data_key_id');

-- step 05
drop trigger kms_immutable_columns on kms_root_key_version;
create trigger kms_immutable_columns before update on kms_root_key_version
  for each row execute procedure kms_immutable_columns('private_id', 'root_key_id', 'create_time');
drop trigger kms_immutable_columns on kms_data_key_version;
create trigger kms_immutable_columns before update on kms_data_key_version
  for each row execute procedure kms_immutable_columns('private_id', 'data_key_id', 'root_key_version_id', 'create_time');

-- step 06
create table kms_collection_version (
  version kms_version,
  create_time timestamp not null default current_timestamp,
  update_time timestamp not null default current_timestamp
);
create unique index kms_collection_version_one_row on kms_collection_version ((version is not null));
create trigger kms_immutable_columns before update on kms_collection_version
  for each row execute procedure kms_immutable_columns('create_time');
create trigger kms_update_time_column before update on kms_collection_version
  for each row execute procedure kms_update_time_column();
insert into kms_collection_version (version) values (1);
update kms_schema_version set version = 'v0.0.2';

-- step 07
drop trigger kms_immutable_columns on kms_data_key_version;
create trigger kms_immutable_columns before update on kms_data_key_version
  for each row execute procedure kms_immutable_columns('private_id', 'data_key_id', 'create_time');
