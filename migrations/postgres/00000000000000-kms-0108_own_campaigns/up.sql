-- Ours. Work over many scopes that can be stopped and taken up again: the
-- cursor moves in the transaction of each batch.

create table kms_campaign (
  id text primary key
    constraint kms_campaign_id_not_blank check (btrim(id, E' \t\n\x0b\f\r') <> ''),
  kind text not null,
  parameters text not null,
  cursor text,
  done_count bigint not null default 0
    constraint kms_campaign_done_count_not_negative check (done_count >= 0),
  create_time kms_timestamp not null,
  update_time kms_timestamp not null,
  finish_time timestamp with time zone
);
comment on table kms_campaign is 'rotation or rewrapping of many scopes, and how far it has come';
comment on column kms_campaign.cursor is 'the last scope that is done; null before the first';

create trigger kms_immutable_columns before update on kms_campaign
  for each row execute function kms_immutable_columns('id', 'kind', 'parameters', 'create_time');
create trigger kms_default_create_time_column before insert on kms_campaign
  for each row execute function kms_default_create_time();
create trigger kms_update_time_column before update on kms_campaign
  for each row execute function kms_update_time_column();

create table kms_campaign_failure (
  campaign_id text not null
    constraint kms_campaign_failure_campaign_id_fkey references kms_campaign (id) on delete cascade,
  scope_id text not null,
  kind text not null,
  message text not null,
  create_time kms_timestamp not null,
  primary key (campaign_id, scope_id)
);
comment on table kms_campaign_failure is 'scopes that a campaign could not do, and why';

create trigger kms_immutable_columns before update on kms_campaign_failure
  for each row execute function kms_immutable_columns('campaign_id', 'scope_id', 'create_time');
create trigger kms_default_create_time_column before insert on kms_campaign_failure
  for each row execute function kms_default_create_time();
