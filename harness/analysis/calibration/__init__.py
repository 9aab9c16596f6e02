"""Do the statistics keep their promises on noise whose truth is known?"""
