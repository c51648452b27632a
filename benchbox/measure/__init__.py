"""The controller: order, launch, watch, journal. Never imports torch."""
