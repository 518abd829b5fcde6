-- Up Migration

-- PostgreSQL's own sum(int8) adds up in 128 bits and answers in numeric, a memory allocation and two conversions a sum:
-- most of what an answer of thousands of cells took. This one fails where that one, made an int8 again, would.
create aggregate exact_sum(int8) (sfunc = int8pl, stype = int8, combinefunc = int8pl, parallel = safe);
comment on aggregate exact_sum(int8) is 'Sum of int8 as int8; fails with "bigint out of range" instead of growing beyond it. Null of no rows.';
revoke execute on function exact_sum(int8) from public;
grant execute on function exact_sum(int8) to tallystick_api, tallystick_system;
