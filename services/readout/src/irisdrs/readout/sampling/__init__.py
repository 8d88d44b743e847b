"""From raw reads to a ramp's slope: arrays in, arrays out."""
