"""From records to tables, fits and the leaderboard. Imports plain records, never torch."""
