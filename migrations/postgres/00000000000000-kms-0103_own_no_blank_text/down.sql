alter table kms_data_key drop constraint not_start_end_whitespace_purpose;
alter table kms_data_key add constraint not_start_end_whitespace_purpose
  check (length(trim(purpose)) = length(purpose));

alter domain kms_scope_id drop constraint kms_scope_id_check;
alter domain kms_scope_id add constraint kms_scope_id_check check (length(trim(value)) > 0);

alter domain kms_private_id drop constraint kms_private_id_check;
alter domain kms_private_id add constraint kms_private_id_check check (length(trim(value)) > 0);
