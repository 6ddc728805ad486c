alter table kms_campaign drop column lease_end;
alter table kms_campaign drop column holder;
alter table kms_campaign drop column unchanged_count;
alter table kms_campaign drop column total_count;
