-- Ours. What a change set does, in few statements: its locks and the rows that it is compared with are one, and what it
-- writes is one. A creation is one in all: kms_apply_creation is for applications that have no diesel, too.
--
-- A change set comes as JSON, as ChangeSet::to_json makes it. Arrays that would be empty are left out, so that nobody
-- needs a right for what is not done.
--
-- Rows are found by key, whatever the statistics say of tables that were empty a moment ago, or of an array in JSON. What
-- is read as a whole (a table of one row) then looks so dear that it would be compiled: hence `jit`.

-- Each tells why it failed, as the functions of the migration before do.

do $do$
declare
  schema_name constant text := current_schema();

  telling constant text := $$exception
  when deadlock_detected or lock_not_available or query_canceled or insufficient_resources then
    raise exception using errcode = sqlstate, message = sqlerrm, hint = 'SQLSTATE ' || sqlstate;$$;
begin
  execute format($text$
create function %1$I.kms_write_changes(changes jsonb) returns table (what text, id text, number bigint)
language plpgsql
set search_path to pg_catalog, pg_temp
set enable_seqscan to off
set enable_hashjoin to off
set enable_mergejoin to off
set jit to off
as $$
declare
  inserted text[] := '{}';
  updated bigint := 0;
  count bigint;
begin
  if changes @? '$[*] ? (@.new_root_key == true)' then
    with new as (
      insert into %1$I.kms_root_key as r (private_id, scope_id)
        select c ->> 'root_key_id', c ->> 'scope_id'
        from jsonb_array_elements(changes) c
        where c @> '{"new_root_key": true}'
        on conflict (scope_id) do nothing
        returning r.private_id::text as private_id
    )
    select coalesce(array_agg(new.private_id), '{}') into inserted from new;
    return query select 'root_key'::text, i.id, null::bigint from unnest(inserted) i (id);
    -- Of a scope that has a root key already nothing else is written.
    select coalesce(jsonb_agg(c), '[]') into changes
      from jsonb_array_elements(changes) c
      where not c @> '{"new_root_key": true}' or c ->> 'root_key_id' = any (inserted);
  end if;
  if changes @? '$[*].root_key_versions' then
    return query
      insert into %1$I.kms_root_key_version as v (private_id, root_key_id, key)
        select n.id, c ->> 'root_key_id', decode(n.key, 'base64')
        from jsonb_array_elements(changes) c,
          jsonb_to_recordset(c -> 'root_key_versions') n (id text, key text)
        returning 'version'::text, v.private_id::text, v.version::bigint;
  end if;
  if changes @? '$[*].data_keys' then
    insert into %1$I.kms_data_key (private_id, root_key_id, purpose)
      select n.id, c ->> 'root_key_id', n.purpose
      from jsonb_array_elements(changes) c,
        jsonb_to_recordset(c -> 'data_keys') n (id text, purpose text);
  end if;
  if changes @? '$[*].data_key_versions' then
    return query
      insert into %1$I.kms_data_key_version as v (private_id, data_key_id, root_key_version_id, key)
        select n.id, n.data_key_id, n.root_key_version_id, decode(n.key, 'base64')
        from jsonb_array_elements(changes) c,
          jsonb_to_recordset(c -> 'data_key_versions')
            n (id text, data_key_id text, root_key_version_id text, key text)
        returning 'version'::text, v.private_id::text, v.version::bigint;
  end if;
  -- No update names the version, even unchanged: that would wait for every transaction of the application that
  -- references the row.
  if changes @? '$[*].rewrapped_root_key_versions' then
    update %1$I.kms_root_key_version as v set key = decode(n.key, 'base64')
      from jsonb_array_elements(changes) c,
        jsonb_to_recordset(c -> 'rewrapped_root_key_versions') n (id text, key text)
      where v.private_id = n.id;
    get diagnostics count = row_count;
    updated := updated + count;
  end if;
  if changes @? '$[*].rewrapped_data_key_versions' then
    update %1$I.kms_data_key_version as v
      set key = decode(n.key, 'base64'), root_key_version_id = n.root_key_version_id
      from jsonb_array_elements(changes) c,
        jsonb_to_recordset(c -> 'rewrapped_data_key_versions') n (id text, root_key_version_id text, key text)
      where v.private_id = n.id;
    get diagnostics count = row_count;
    updated := updated + count;
  end if;
  if changes @? '$[*].root.name ? (@ != null)' then
    insert into %1$I.kms_scope_root as s (root_key_id, name)
      select c ->> 'root_key_id', c -> 'root' ->> 'name'
      from jsonb_array_elements(changes) c
      where c -> 'root' ->> 'name' is not null
      on conflict (root_key_id) do update set name = excluded.name;
  end if;
  if changes @? '$[*].root.name ? (@ == null)' then
    delete from %1$I.kms_scope_root s
      using jsonb_array_elements(changes) c
      where c @> '{"root": {"name": null}}' and s.root_key_id = c ->> 'root_key_id';
  end if;
  return query select 'updated'::text, null::text, updated;
%2$s
end;
$$;
comment on function %1$I.kms_write_changes(jsonb) is
  'writes change sets; returns the root keys that were inserted, the numbers of new versions, and how many rows were updated';
$text$, schema_name, telling);

  execute format($text$
create function %1$I.kms_apply_creation(change jsonb) returns void
language plpgsql
set search_path to pg_catalog, pg_temp
as $$
declare
  wrong text;
begin
  if not change @> '{"operation": "create_keys", "new_root_key": true}' then
    raise exception 'kms_apply_creation: this change set creates no scope''s keys'
      using errcode = 'invalid_parameter_value';
  end if;
  insert into %1$I.kms_root_key (private_id, scope_id)
    values (change ->> 'root_key_id', change ->> 'scope_id')
    on conflict (scope_id) do nothing;
  if not found then
    raise exception 'kms_apply_creation: the scope has keys already'
      using errcode = 'unique_violation', constraint = 'kms_root_key_scope_id_key', table = 'kms_root_key';
  end if;
  -- Wrapped keys are bound to the number of their version.
  select w.id into wrong
    from %1$I.kms_write_changes(jsonb_build_array(change - 'new_root_key')) w
    join (
      select n.id, n.version from jsonb_to_recordset(change -> 'root_key_versions') n (id text, version bigint)
      union all
      select n.id, n.version from jsonb_to_recordset(change -> 'data_key_versions') n (id text, version bigint)
    ) expected on expected.id = w.id
    where w.number <> expected.version
    limit 1;
  if found then
    raise exception 'kms_apply_creation: %% has another version number than its key is bound to', wrong
      using errcode = 'check_violation', constraint = 'kms_bound_version';
  end if;
%2$s
end;
$$;
comment on function %1$I.kms_apply_creation(jsonb) is
  'creates the keys of a scope from a change set; unique_violation of kms_root_key_scope_id_key if it has keys';
$text$, schema_name, telling);

  execute format($text$
create function %1$I.kms_lock_and_read(bump boolean, root_key_ids text[], scope_ids text[], wait text)
returns table (
  tag smallint, id text, parent text, wrapper text, label text, version bigint, key bytea,
  "time" timestamp with time zone
)
language plpgsql
set search_path to pg_catalog, pg_temp
set enable_seqscan to off
set jit to off
set plan_cache_mode to force_generic_plan
as $$
begin
  if wait is not null then
    perform set_config('lock_timeout', wait, true);
  end if;
  perform %1$I.kms_lock_keys(bump, root_key_ids);
  -- A statement of its own, so that it sees what was committed while the locks were waited for.
  return query
    with selected as materialized (
      select r.private_id, r.scope_id, r.create_time from %1$I.kms_root_key r where r.scope_id = any (scope_ids)
    )
    select 0::smallint, ''::text, null::text, null::text, null::text, c.version::bigint, null::bytea,
           (c.update_time at time zone 'UTC')::timestamp with time zone
      from %1$I.kms_collection_version c
    union all
    select 1::smallint, s.private_id::text, null,
           (select r.name from %1$I.kms_scope_root r where r.root_key_id = s.private_id), s.scope_id::text, null,
           null, s.create_time::timestamp with time zone
      from selected s
    union all
    select 2::smallint, v.private_id::text, v.root_key_id::text, null, null, v.version::bigint, v.key,
           v.create_time::timestamp with time zone
      from selected s join %1$I.kms_root_key_version v on v.root_key_id = s.private_id
    union all
    select 3::smallint, k.private_id::text, k.root_key_id::text, null, k.purpose, null, null,
           k.create_time::timestamp with time zone
      from selected s join %1$I.kms_data_key k on k.root_key_id = s.private_id
    union all
    select 4::smallint, v.private_id::text, v.data_key_id::text, v.root_key_version_id::text, null,
           v.version::bigint, v.key, v.create_time::timestamp with time zone
      from selected s
      join %1$I.kms_data_key k on k.root_key_id = s.private_id
      join %1$I.kms_data_key_version v on v.data_key_id = k.private_id;
%2$s
end;
$$;
comment on function %1$I.kms_lock_and_read(boolean, text[], text[], text) is
  'kms_lock_keys, then the rows of these scopes';
$text$, schema_name, telling);
end;
$do$;
