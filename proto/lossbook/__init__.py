"""Generated wire and storage contract of lossbook."""
