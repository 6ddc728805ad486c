-- Prints the statements that rename the tables of a Go kms that was made with WithTableNamePrefix("app"), and
-- the triggers and indexes on them, so that they can be adopted. Run what it prints, in one transaction, with no
-- Go process running; from then on Go is started without the option. Put the prefix in the next line.
with prefix (old) as (select 'app_'),
named as (
  select type, name, tbl_name, sql, old
    from sqlite_master, prefix
   where tbl_name in (old || 'schema_version', old || 'collection_version', old || 'root_key',
                      old || 'root_key_version', old || 'data_key', old || 'data_key_version')
)
-- SQLite can't rename triggers and indexes: they are made anew under their new names.
select 'drop ' || type || ' "' || name || '";' as t, 1 as step
  from named where type in ('trigger', 'index') and sql is not null
union all
select 'alter table "' || name || '" rename to "' || replace(name, old, 'kms_') || '";', 2
  from named where type = 'table'
union all
select replace(sql, old, 'kms_') || ';', 3
  from named where type in ('trigger', 'index') and sql is not null
order by step;
