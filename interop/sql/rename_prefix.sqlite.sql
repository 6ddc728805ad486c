-- Prints the statements that rename the tables of a Go kms that was made with WithTableNamePrefix("app"), and
-- the triggers and indexes that its migrations made on them, so that they can be adopted. Run what it prints, in one
-- transaction, with no Go process running; from then on Go is started without the option. Put the prefix in the next
-- line. What the application made itself keeps its name and its statements; SQLite lets them follow the tables.
with prefix (old) as (select 'app_'),
tables (name) as (
  values ('schema_version'), ('collection_version'), ('root_key'), ('root_key_version'), ('data_key'),
         ('data_key_version')
),
gos (name) as (
  select old || 'immutable_columns_' || old || name from prefix, tables
  union all
  select old || 'default_create_time_column_' || old || name from prefix, tables
  union all
  select 'version_column_' || old || name from prefix, tables
  union all
  select 'update_time_column_' || old || name from prefix, tables
  union all
  select 'update_time_column_' || old || 'version' from prefix
  union all
  select old || name || '_one_row' from prefix, tables
),
-- SQLite can't rename triggers and indexes: they are made anew under their new names.
anew (type, name, sql) as (
  select type, name,
         replace(replace(replace(replace(replace(replace(replace(sql,
           old || 'schema_version', 'kms_schema_version'),
           old || 'collection_version', 'kms_collection_version'),
           old || 'root_key', 'kms_root_key'),
           old || 'data_key', 'kms_data_key'),
           old || 'immutable_columns', 'kms_immutable_columns'),
           old || 'default_create_time', 'kms_default_create_time'),
           'update_time_column_' || old || 'version', 'update_time_column_kms_version')
    from sqlite_master, prefix
   where type in ('trigger', 'index') and sql is not null and name in (select name from gos)
     and tbl_name in (select old || name from tables)
)
select 'drop ' || type || ' "' || name || '";' as t, 1 as step from anew
union all
select 'alter table "' || old || name || '" rename to "kms_' || name || '";', 2 from tables, prefix
union all
select sql || ';', 3 from anew
order by step;
