"""What every package stands on: errors, limits, text for people, atomic files, devices. Imports none of the others."""
