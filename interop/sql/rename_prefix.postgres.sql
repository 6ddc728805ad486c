-- Renames the tables of a Go kms that was made with WithTableNamePrefix("app"), and what its migrations made for
-- them, so that they can be adopted. In one transaction, with no Go process running; from then on Go is started
-- without the option. Put the prefix in the next line; run it in the schema of the tables. What the application
-- made itself keeps its name, whatever that begins with.
select set_config('kms.prefix', 'app', true);

do $$
declare
  tables constant text[] := array(
    select current_setting('kms.prefix') || '_' || name
      from unnest(array['schema_version', 'collection_version', 'root_key', 'root_key_version',
                        'data_key', 'data_key_version']) as name);
  names constant text[] := array(
    select current_setting('kms.prefix') || '_' || name
      from unnest(array[
        -- domains and their checks
        'private_id', 'scope_id', 'timestamp', 'version', 'private_id_check', 'scope_id_check', 'version_check',
        -- functions and triggers
        'immutable_columns', 'default_create_time', 'default_create_time_column', 'update_time_column',
        'version_column',
        -- indexes and constraints
        'schema_version_one_row', 'collection_version_one_row',
        'root_key_pkey', 'root_key_scope_id_key', 'root_key_version_pkey', 'root_key_version_root_key_id_version_uq',
        'data_key_pkey', 'data_key_root_key_id_purpose_uq', 'data_key_version_pkey',
        'data_key_version_data_key_id_version_uq', 'root_key_fkey', 'root_key_version_fkey', 'data_key_fkey'
      ]) as name);
  here constant oid := quote_ident(current_schema())::regnamespace;
  found record;
begin
  for found in
    select format('alter trigger %I on %I rename to', tgname, relname) as command, tgname::text as name
      from pg_trigger join pg_class on pg_class.oid = tgrelid
     where relnamespace = here and relname = any (tables) and tgname = any (names) and not tgisinternal
    union all
    select format('alter table %I rename constraint %I to', relname, conname), conname
      from pg_constraint join pg_class on pg_class.oid = conrelid
     where relnamespace = here and relname = any (tables) and conname = any (names)
       and contype in ('f', 'p', 'u', 'c')
    union all
    select format('alter index %I rename to', index.relname), index.relname
      from pg_index join pg_class as index on index.oid = indexrelid join pg_class as tab on tab.oid = indrelid
     where tab.relnamespace = here and tab.relname = any (tables) and index.relname = any (names)
       and not exists (select from pg_constraint where conindid = indexrelid and conname = index.relname)
    union all
    select format('alter domain %I rename constraint %I to', typname, conname), conname
      from pg_constraint join pg_type on pg_type.oid = contypid
     where typnamespace = here and typname = any (names) and conname = any (names)
    union all
    select format('alter domain %I rename to', typname), typname
      from pg_type where typnamespace = here and typtype = 'd' and typname = any (names)
    union all
    select format('alter function %I() rename to', proname), proname
      from pg_proc
     where pronamespace = here and pronargs = 0 and prorettype = 'trigger'::regtype and proname = any (names)
    union all
    select format('alter table %I rename to', name), name
      from unnest(tables) as name
  loop
    execute format('%s %I', found.command,
                   'kms' || substr(found.name, length(current_setting('kms.prefix')) + 1));
  end loop;
end $$;
