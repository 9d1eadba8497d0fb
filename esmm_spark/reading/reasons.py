"""Why a line of an event log, a catalog or a table is rejected: names that all of them share."""

MALFORMED_LINE = "malformed_line"  # no JSON object of the mapped types, or another number of CSV columns
NO_ID = "missing_id"  # a mapped id is null or empty
# An id holds a comma or a control character, which the examples' writer could not tell apart, or was rounded.
BAD_ID = "bad_id"
UNPARSABLE_TIME = "unparsable_time"  # no time of the config's unit
TIME_OUT_OF_RANGE = "time_out_of_range"  # before `earliest_time` or after 2099: most likely another unit
