-- Up Migration

-- An order that fails says so, and lets others go on; an order that has changed nothing can be cancelled.
alter table rerating drop constraint rerating_state_check;
alter table rerating add constraint rerating_state_check
  check (state in ('ordered', 'previewing', 'previewed', 'applying', 'applied', 'undoing', 'undone', 'cancelled'));
comment on column rerating.finished_at is 'When it came to the state it is in: previewed, applied, undone or cancelled.';

create table rerating_failure (
  rerating_id int4 not null references rerating (id),
  failed_in text not null check (failed_in in ('ordered', 'previewing', 'applying', 'undoing')),
  day date,
  failures int4 not null check (failures > 0),
  since timestamptz not null,
  failed_at timestamptz not null,
  retry_at timestamptz not null,
  error text not null,
  primary key (rerating_id, failed_in)
);
comment on table rerating_failure is 'Orders whose work failed the last time, which the end of the day or the state that failed deletes. It concerns an order while that is in the state failed_in.';
comment on column rerating_failure.day is 'The UTC day that failed; null: no day alone.';
comment on column rerating_failure.failures is 'How often in a row, the first at since, the last at failed_at; not tried again before retry_at.';
comment on column rerating_failure.error is 'The last failure in words without data: SQLSTATE and message.';

grant select on rerating_failure to tallystick_system, tallystick_admin;
