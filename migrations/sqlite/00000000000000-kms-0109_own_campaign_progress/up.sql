-- Ours. Who works on a campaign (the random id of the run, null if it was
-- released), and how much of it there is: the scopes at its start, and those
-- that needed no change. One process at a time holds a campaign, until its
-- lease ends by the clock of the machine.

alter table kms_campaign add column total_count bigint not null default 0
  constraint kms_campaign_total_count_not_negative check (total_count >= 0);
alter table kms_campaign add column unchanged_count bigint not null default 0
  constraint kms_campaign_unchanged_count_not_negative check (unchanged_count >= 0);
alter table kms_campaign add column holder text;
alter table kms_campaign add column lease_end timestamp;
