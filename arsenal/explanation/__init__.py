"""Why a run answers as it does: methods by name, in the columns of its data, to a table and a page or into its artifact."""
