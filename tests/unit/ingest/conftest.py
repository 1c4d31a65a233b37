"""Settings of the gateway's laws."""

from hypothesis import settings

# A machine that runs a broker beside the tests makes some example slow now and then.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
