-- Ours. Blank means white space of any ASCII kind, not only spaces, and a
-- purpose has at least one character that isn't.
--
-- Adopted rows that break a rule stay: `not valid` asks new rows only.
-- Where no row breaks it, the constraint is validated.

alter domain kms_private_id drop constraint kms_private_id_check;
alter domain kms_private_id add constraint kms_private_id_check
  check (btrim(value, E' \t\n\x0b\f\r') <> '') not valid;

alter domain kms_scope_id drop constraint kms_scope_id_check;
alter domain kms_scope_id add constraint kms_scope_id_check
  check (btrim(value, E' \t\n\x0b\f\r') <> '') not valid;

alter table kms_data_key drop constraint not_start_end_whitespace_purpose;
alter table kms_data_key add constraint not_start_end_whitespace_purpose
  check (purpose <> '' and btrim(purpose, E' \t\n\x0b\f\r') = purpose) not valid;

do $$
begin
  begin
    alter domain kms_private_id validate constraint kms_private_id_check;
  exception when check_violation then
    raise notice 'kms_private_id: rows with a blank id stay as they are';
  end;
  begin
    alter domain kms_scope_id validate constraint kms_scope_id_check;
  exception when check_violation then
    raise notice 'kms_scope_id: rows with a blank scope id stay as they are';
  end;
  begin
    alter table kms_data_key validate constraint not_start_end_whitespace_purpose;
  exception when check_violation then
    raise notice 'kms_data_key: rows with white space around the purpose, or none, stay as they are';
  end;
end;
$$;
