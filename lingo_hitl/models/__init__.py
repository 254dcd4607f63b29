"""What turns text into text or numbers."""

import warnings

# distilabel 1.5.3 declares fields in a way that newer pydantic warns about, once for each class.
warnings.filterwarnings("ignore", message="The 'default' attribute with value None")
