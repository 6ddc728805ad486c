-- The functions as they were: they find the tables, and all else, in the schema
-- of the tables.

update kms_extension_version set version = 'v4';

drop trigger kms_require_one_row_tables on kms_root_key;
drop function kms_require_one_row_tables();

create or replace function kms_immutable_columns() returns trigger
language plpgsql
as $$
declare
  before_update constant jsonb := to_jsonb(old);
  after_update constant jsonb := to_jsonb(new);
  column_name text;
begin
  foreach column_name in array tg_argv loop
    if not before_update ? column_name then
      raise exception 'trigger % on %: no such column: %', tg_name, tg_table_name, column_name;
    end if;
    if after_update -> column_name is distinct from before_update -> column_name then
      raise exception 'immutable column: %.%', tg_table_name, column_name
        using errcode = '23601',
              schema = tg_table_schema,
              table = tg_table_name,
              column = column_name;
    end if;
  end loop;
  return new;
end;
$$;

create or replace function kms_default_create_time() returns trigger
language plpgsql
as $$
begin
  new.create_time := now();
  return new;
end;
$$;
comment on function kms_default_create_time() is
  'before insert: create_time is the database''s, whatever the client sent';

create or replace function kms_update_time_column() returns trigger
language plpgsql
as $$
begin
  if new is distinct from old then
    new.update_time := now();
  end if;
  return new;
end;
$$;

create or replace function kms_version_column() returns trigger
language plpgsql
security definer
as $$
begin
  case tg_argv[0]
    when 'root_key_id' then
      perform from kms_root_key
        where private_id = new.root_key_id
        for no key update;
      select coalesce(max(version), 0) + 1 into new.version
        from kms_root_key_version
        where root_key_id = new.root_key_id;
    when 'data_key_id' then
      perform from kms_root_key
        where private_id = (select root_key_id from kms_data_key where private_id = new.data_key_id)
        for no key update;
      select coalesce(max(version), 0) + 1 into new.version
        from kms_data_key_version
        where data_key_id = new.data_key_id;
  end case;
  return new;
end;
$$;
comment on function kms_version_column() is
  'before insert: version is the next number of the key, whatever the client sent';

create or replace function kms_bump_collection_version() returns trigger
language plpgsql
security definer
as $$
begin
  update kms_collection_version set version = version + 1;
  return null;
end;
$$;

create or replace function kms_lock_for_change(bump boolean, root_key_ids text[]) returns text
language plpgsql
as $$
begin
  if bump then
    update kms_collection_version set version = version + 1;
  end if;
  perform from kms_root_key
    where private_id = any (root_key_ids)
    order by private_id
    for no key update;
  return 'ok';
exception
  when deadlock_detected then return 'deadlock';
  when lock_not_available then return 'busy';
end;
$$;

create or replace function kms_lock_key_version(version_id text) returns text
language plpgsql
as $$
begin
  perform from kms_root_key_version where private_id = version_id for update nowait;
  if found then
    return 'ok';
  end if;
  perform from kms_data_key_version where private_id = version_id for update nowait;
  if found then
    return 'ok';
  end if;
  return 'missing';
exception
  when lock_not_available then return 'busy';
  when deadlock_detected then return 'deadlock';
end;
$$;

do $$
declare
  function_name text;
begin
  foreach function_name in array array[
    'kms_immutable_columns()', 'kms_default_create_time()', 'kms_update_time_column()', 'kms_version_column()',
    'kms_bump_collection_version()', 'kms_lock_for_change(boolean, text[])', 'kms_lock_key_version(text)'
  ] loop
    execute format('alter function %I.%s set search_path to %1$I, pg_temp', current_schema(), function_name);
  end loop;
end;
$$;
alter function kms_default_create_time() set timezone to 'UTC';
alter function kms_update_time_column() set timezone to 'UTC';
