"""Now Playing (Agüera y Arcas et al., 2017): music recognition on a phone that never stops."""
